package main

const usage = `
Usage: chmpxbench [ -s | -c ] [options]

Option  [ -s | -c ]       process mode: server or client
        -conf [file name] Configuration file( .ini ) path; environment CHMCONFFILE
        -ctlport [port]   control port of the node to attach to, if the file does not say
        -cuk [text]       CUK of the node to attach to, if the file does not say

        -l [loop count]   Loop count(default 1), 0 means no limit.
        -proccnt          process count.
        -threadcnt        thread count per one process.
        -ta               Turn around mode.(message is turned around on server to slave.)
        -dl [bytes]       send message size.(minimum bytes is 64)
        -pr               print sending/receiving message.
        -d, -g [level]    log level: "ERR" / "WAN" / "INF" / "DUMP"
        -h                display help

        -window [n]       requests in flight per thread(default 1), needs -c -ta
        -duration [time]  stop after this time, as 10s or 500ms; sets -l 0
        -timeout [time]   limit for one message(default 1s)
        -attach-timeout [time]  limit for attaching to the node(default 10s)
        -percentiles      print latencies behind the result
        -json             print the result as JSON instead
        -dummykey [word]  ignored; marks the process in a process list

HUP, TERM or INT ends all processes; the result is printed then as well.
Exit code: 0, however many errors were counted; 1 for a wrong option, when no
node could be attached to, or when a child process was lost.
`
