#!/bin/sh
# Runs a command in a root directory, with process ids, a network, mounts and
# control groups of its own: enter.sh ROOT COMMAND [ARGUMENT...]. All that it
# starts ends with it. Needs root.
set -e
cgroup=/sys/fs/cgroup/unified
[ -d "$cgroup" ] || cgroup=/sys/fs/cgroup
mkdir "$cgroup/chmpx-test-$$"
echo $$ >"$cgroup/chmpx-test-$$/cgroup.procs"
exec unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup sh -c '
set -e
root=$1
shift
mount --make-rprivate /
mount --bind "$root" "$root"
ip link set lo up
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sys "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for d in null:3 zero:5 full:7 random:8 urandom:9; do
	mknod -m 666 "$root/dev/${d%:*}" c 1 "${d#*:}"
done
mkdir "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
cd "$root"
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/root chroot . "$@"
' sh "$@"
