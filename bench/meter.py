"""What servers use: CPU time, resident memory, disk."""
import os

HERTZ = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_us(pids):
    """User and system time of these processes so far, in microseconds, children that have ended included."""
    user = system = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return user * 1e6 / HERTZ, system * 1e6 / HERTZ


def resident_bytes(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/statm") as statm:
            total += int(statm.read().split()[1]) * PAGE
    return total


def disk_bytes(directory):
    """What the files below occupy. Room reserved beyond a file's end and holes in it do not count, nor does what is
    removed meanwhile."""
    total = 0
    for path, _, names in os.walk(directory):
        for name in names:
            try:
                file = os.lstat(os.path.join(path, name))
                total += min(file.st_size, file.st_blocks * 512)
            except FileNotFoundError:
                pass
    return total
