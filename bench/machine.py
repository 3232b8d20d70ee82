"""Where and with what it was measured."""
import hashlib, os, platform, re, subprocess


def facts(options, programs):
    return {
        "date": said("date", "-u", "+%Y-%m-%d"),
        "commit": commit(),
        "processor": f"{os.cpu_count()} x {processor()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": f"{system()}, Linux {platform.release()}",
        "disk": " ".join(said("df", "--output=source,fstype", options.directory or "/tmp").split()[-2:]),
        "peers": ", ".join(filter(None, map(version, sorted(programs)))) or "none",
        "rounds": f"{options.rounds} of {options.seconds:g} s, medians",
    }


def fingerprint(path):
    """Figures are of one binary: this names it."""
    with open(path, "rb") as binary:
        return hashlib.sha256(binary.read()).hexdigest()[:10]


def commit():
    changed = "" if not said("git", "status", "--porcelain", "--untracked-files=no") else " and changes"
    return said("git", "rev-parse", "--short", "HEAD") + changed


def version(program):
    found = re.search(r"v=(\S+)|Version: (\S+)", said(program, "--version"))
    return f"{program} {found[1] or found[2]}" if found else None


def processor():
    with open("/proc/cpuinfo") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.machine()


def system():
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def said(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=os.path.dirname(__file__)).stdout.strip()
    except OSError:
        return ""
