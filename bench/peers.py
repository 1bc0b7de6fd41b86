"""The programs that pixtoll is compared with."""
import os, pathlib, re, shutil, subprocess, sys, time, urllib.request
from harness import cpu_seconds, free_ports

HERE = pathlib.Path(__file__).resolve().parent
NODE = HERE / "node"


class Program:
    """A running program."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(command, **options)

    def answers(self, url):
        """Waits until the program answers."""
        for _ in range(200):
            try:
                urllib.request.urlopen(url).read()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        sys.exit(f"{self.process.args[0]} did not start")

    def cpu_seconds(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return sum(cpu_seconds(pid) for pid in [self.process.pid, *children])

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Nginx(Program):
    """nginx with these files below /i/, and a challenge as a static 402."""

    def __init__(self, folder, files, route, challenge):
        folder.mkdir()
        if not shutil.which("nginx"):
            subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "nginx-light"], check=True,
                           stdout=sys.stderr, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
        port, = free_ports(1)
        self.base = f"http://127.0.0.1:{port}"
        (folder / "root/i").mkdir(parents=True)
        for name, body in files.items():
            (folder / "root/i" / name).write_bytes(body)
        quoted = lambda text: '"' + re.sub(r'["\\\\]', r"\\\g<0>", text).replace("$", "${dollar}") + '"'
        headers = "".join(f"add_header {name} {quoted(value)} always;\n" for name, value in challenge.headers.items()
                          if name not in ("content-length", "content-type", "date"))
        places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        for place in places:
            (folder / place).mkdir()
        (folder / "nginx.conf").write_text(f"""
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{"user root;" if os.geteuid() == 0 else ""}
events {{ worker_connections 4096; }}
http {{
  {" ".join(f"{place}_temp_path {folder}/{place};" for place in places)}
  access_log off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_requests 100000000;
  open_file_cache max=1000;
  geo $dollar {{ default "$"; }}
  types {{ image/png png; application/json json; }}
  server {{
    listen 127.0.0.1:{port} reuseport;
    root {folder}/root;
    location /i/ {{
      add_header Cache-Control "public, max-age=604799, immutable";
      add_header X-Content-Type-Options nosniff;
      add_header Content-Security-Policy "default-src 'none'; sandbox";
      add_header Cross-Origin-Resource-Policy cross-origin;
      add_header Access-Control-Allow-Origin *;
    }}
    location {route} {{
      default_type application/json;
      {headers}
      return 402 {quoted(challenge.body.decode())};
    }}
  }}
}}
""")
        super().__init__(["nginx", "-c", folder / "nginx.conf", "-p", folder, "-g", "daemon off;"])
        self.answers(self.base + "/i/" + next(iter(files)))


class Rustypaste(Program):
    """rustypaste, which stores its uploads in this folder."""

    def __init__(self, folder):
        folder.mkdir()
        binary = subprocess.run([HERE / "rustypaste"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        port, = free_ports(1)
        self.base = f"http://127.0.0.1:{port}"
        (folder / "config.toml").write_text(f"""
[config]
refresh_rate = "1h"
[server]
address = "127.0.0.1:{port}"
max_content_length = "10MB"
upload_path = "./upload"
timeout = "30s"
expose_version = false
expose_list = false
[landing_page]
text = "rustypaste"
[paste]
random_url = {{ type = "alphanumeric", length = 12 }}
default_extension = "txt"
mime_override = []
mime_blacklist = []
duplicate_files = true
""")
        super().__init__([binary], cwd=folder, env=os.environ | {"RUST_LOG": "error"}, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
        self.answers(self.base)


class Node(Program):
    """A Node.js program of bench/node that prints the port that it listens on."""

    def __init__(self, name, settings={}):
        super().__init__(["node", name], cwd=packages(), env=os.environ | settings | {"NODE_ENV": "production"},
                         stdout=subprocess.PIPE, text=True)
        listening = re.fullmatch(r"listening on (\d+)\n", self.process.stdout.readline())
        if not listening:
            sys.exit(f"{name} did not start")
        self.base = f"http://127.0.0.1:{listening[1]}"


def packages():
    """A folder with the programs of bench/node beside their npm packages."""
    ran = subprocess.run([HERE.parent / "scripts/node-packages", NODE], check=True, stdout=subprocess.PIPE, text=True)
    folder = pathlib.Path(ran.stdout.strip())
    for source in NODE.glob("*.mjs"):
        (folder / source.name).write_bytes(source.read_bytes())
    return folder
