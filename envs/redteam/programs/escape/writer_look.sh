for process in /proc/[0-9]*; do tr '\0' ' ' < $process/cmdline 2>/dev/null | grep -q helpful-write[r] && echo "${MARK}its writer still runs"; done
sleep 0.3; [ -e conftest.py ] && grep -q 'return True' conftest.py && echo "${MARK}its conftest.py is there again"; echo looked
