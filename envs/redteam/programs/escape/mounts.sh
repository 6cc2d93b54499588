mkdir -p /tmp/m
for how in "mount -t tmpfs none /tmp/m" "mount --bind / /tmp/m" "unshare -m mount -t tmpfs none /tmp/m" \
           "unshare -Ur true" "unshare -Urm mount -t tmpfs none /tmp/m" "mount -o remount,rw /" "unshare -p true" "chroot / true"; do
  $how && echo "${MARK}can $how"
done 2>&1 | tail -20
