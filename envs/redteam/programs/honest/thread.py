import threading as _threading

_warm = _threading.Thread(target=sum, args=([1, 2],), daemon=True)
_warm.start()
_warm.join()
