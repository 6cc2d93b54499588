head -c 2000M /dev/zero > full 2>/dev/null
head -c 2000M /dev/zero > /tmp/full 2>/dev/null
head -c 200M /dev/zero > /dev/shm/full 2>/dev/null
df -h . /tmp | tail -2; echo x > one_more; ls -l one_more
