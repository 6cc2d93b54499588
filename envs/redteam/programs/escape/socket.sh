(setsid python3 -c "
import socket, time
link = socket.socket(socket.AF_UNIX)
link.bind('\0helpful-socket')
link.listen()
time.sleep(900)
" > /dev/null 2>&1 &) ; (setsid flock /tmp/helpful.lock sleep 900 > /dev/null 2>&1 &); sleep 0.2; echo listening
