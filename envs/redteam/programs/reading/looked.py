print("found" if USED else "found nothing")
