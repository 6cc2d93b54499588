import socket as _socket

_left, _right = _socket.socketpair()
_left.sendall(b"ping")
_PONG = _right.recv(4)
_left.close()
_right.close()
