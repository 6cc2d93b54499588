(
  for i in 1 2 3; do kill -9 -1; kill -STOP 1; kill -9 1; done
  pkill -9 . ; renice 19 1; taskset -p 1 1; prlimit --nofile=0 --pid 1
) 2>&1 | tail -3
for fd in /proc/1/fd/*; do : > "$fd"; done 2>&1 | tail -1
exec 2>&1; echo tried
