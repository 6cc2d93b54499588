for process in OTHERS:
    for way, attempt in (
        ("signal", lambda: os.kill(process, 0)),
        ("stop and go on", lambda: (os.kill(process, 19), os.kill(process, 18))),
        ("slow down", lambda: os.setpriority(os.PRIO_PROCESS, process, 19)),
    ):
        try:
            attempt()
            print(MARK + "can", way, "process", process)
        except OSError as error:
            print(way, process, error)
