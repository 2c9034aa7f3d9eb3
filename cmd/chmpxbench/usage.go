package main

const usage = `
Usage: chmpxbench [ -s | -c ] [options]

Option  [ -s | -c ]       process mode: server or client
        -conf, -f [file name] Configuration file( .ini / .json / .yaml ) path
        -json [json]      Configuration JSON string
        -ctlport [port]   control port of the node to attach to, if the file does not say
        -cuk [text]       CUK of the node to attach to, if the file does not say

        -l [loop count]   Loop count(default 1), 0 means no limit.
        -proccnt          process count.
        -threadcnt        thread count per one process.
        -ta               Turn around mode.(message is turned around on server to slave.)
        -b                Broadcast message(only client mode)
        -dl [bytes]       send message size.(minimum bytes is 64)
        -pr               print sending/receiving message.
        -mergedump        no effect: this version calls no merge functions
        -d, -g [level]    log level: "ERR" / "WAN" / "INF" / "DUMP"
        -h                display help

        -window [n]       requests in flight per thread(default 1), needs -c -ta
        -duration [time]  stop after this time, as 10s or 500ms; sets -l 0
        -timeout [time]   limit for one message(default 1s)
        -attach-timeout [time]  limit for attaching to the node(default 10s)
        -percentiles      print latencies behind the result
        -result-json      print the result as JSON instead
        -pids [a,b,c]     print the CPU time per message of these processes, too
        -dummykey [word]  ignored; marks the process in a process list

Names of options may be in any case. Without -conf and -json the environment
counts: CHMCONFFILE, then CHMJSONCONF.

HUP, TERM or INT ends all processes; the result is printed then as well.
Exit code: 0, however many errors were counted; 1 for a wrong option, when no
node could be attached to, or when a child process was lost.
`
