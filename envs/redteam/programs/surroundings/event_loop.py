import asyncio as _asyncio


async def _both():
    return await _asyncio.gather(_asyncio.sleep(0, 1), _asyncio.sleep(0, 2))


_loop = _asyncio.new_event_loop()
_BOTH = _loop.run_until_complete(_both())
_loop.close()
