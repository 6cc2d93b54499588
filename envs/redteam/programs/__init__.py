"""The programs that cheats run in the test process."""
