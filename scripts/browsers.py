"""Runs a script of tests/browser, which drives Debian's Chromium by playwright-core.

Run by itself, it installs and prints the folder of the packages. Chromium and the packages of tests/browser/package-lock.json are installed where they are missing; what can't be installed
is a failure.
"""
import sys
sys.dont_write_bytecode = True
import os, pathlib, shutil, subprocess

TREE = pathlib.Path(__file__).resolve().parent.parent


def install():
    """Installs what is missing. Returns the folder of the packages."""
    if not shutil.which("chromium"):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            sys.exit("missing: chromium; install it")
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=sys.stderr)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"], check=True, stdout=sys.stderr,
                       env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    ran = subprocess.run([TREE / "scripts/node-packages", TREE / "tests/browser"], check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout.strip()


def run(script, *arguments):
    """Runs tests/browser/SCRIPT with Node.js. Returns its exit code."""
    env = os.environ | {"BROWSER_PACKAGES": install(), "CHROMIUM": shutil.which("chromium")}
    command = ["node", TREE / "tests/browser" / script, *arguments]
    return subprocess.run([str(word) for word in command], env=env, stdin=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    print(install())
