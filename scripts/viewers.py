"""Finds out what Chromium, Pillow and libvips show of an image, and whether two files look the same in each of them.

Each viewer returns a view, a dictionary with these keys:

- `shown`: whether the viewer shows the whole image. A part of it, or an image with a frame missing, is False.
- `why`: the error of the viewer when `shown` is False.
- `width`, `height`: pixels of the first frame, with the orientation applied.
- `css`: Chromium only; the size that a page lays out, with the density of the file applied.
- `orientation`: 1 to 8, as the viewer understood the file.
- `raw`: Pillow and libvips only; a digest of each frame before the orientation is applied.
- `frames`: a digest of each frame as it is shown.
- `durations`, `loop`: the timing of an animation.
- `gain_map`: libvips only; the gain map that libultrahdr finds: a digest of its data, and its settings.

Digests of different viewers can't be compared: decoders differ in the last bit.
"""
import sys
sys.dont_write_bytecode = True
import concurrent.futures, fcntl, hashlib, http.server, io, json, os, pathlib, queue, resource, secrets, shutil, signal, struct
import subprocess, tempfile, threading, warnings, zlib

PILLOW, PYVIPS, PYVIPS_BINARY = "13.0.0", "3.2.0", "8.18.7"
VIEWERS = ("chromium", "pillow", "libvips")
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-extensions",
         "--disable-default-apps", "--disable-dev-shm-usage", "--disable-background-timer-throttling",
         "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
         "--force-color-profile=srgb", "--mute-audio"]
# A file that takes longer than this in a viewer counts as not shown.
TIMEOUT = 60
STARTUP = 90
# Pixels. A larger image counts as not shown by Pillow and libvips, to limit their memory.
LARGEST = 150_000_000


def install(programs):
    """Restarts the script in a Python that has Pillow and libvips. `programs` maps a program to its Debian package."""
    packages = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if packages:
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            sys.exit(f"missing: {' '.join(packages)}; install it")
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], check=True,
                       env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = cache / "pixtoll" / f"viewers-{PILLOW}-{PYVIPS_BINARY}"
    python = folder / "bin" / "python3"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Two runs at once would overwrite each other's installation.
    with open(folder.parent / (folder.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                            f"pillow=={PILLOW}", f"pyvips=={PYVIPS}", f"pyvips-binary=={PYVIPS_BINARY}"], check=True)
            (folder / "done").touch()
    if pathlib.Path(sys.prefix).resolve() != folder.resolve():
        os.execv(python, [str(python), *sys.argv])


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def kind(data):
    """The format that browsers recognise by the first bytes, or None."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if data[:4] == b"RIFF" and data[8:14] == b"WEBPVP":
        return "webp"
    return None


def jpeg_parts(data, at=0):
    """The segments of the picture that starts at `at`, each as (marker, body, all its bytes), and where it ends.

    A scan holds its entropy-coded data. Raises IndexError if the picture has no end.
    """
    parts, at = [], at + 2
    while data[at:at + 2] != b"\xff\xd9":
        code, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2:at + 4], "big")
        while code == 0xda and not (data[end] == 0xff and data[end + 1] not in (0, *range(0xd0, 0xd8))):
            end += 1
        if data[at] != 0xff:
            raise IndexError(f"byte {at} starts no segment")
        parts.append((code, data[at + 4:end], data[at:end]))
        at = end
    return parts, at + 2


def without_metadata(data, at=0):
    """The picture that starts at `at`, without APP segments and comments."""
    kept = [whole for code, _, whole in jpeg_parts(data, at)[0] if not 0xe0 <= code <= 0xef and code != 0xfe]
    return b"\xff\xd8" + b"".join(kept) + b"\xff\xd9"


def with_checksums(data):
    """The PNG file with the right checksum on each whole chunk; None if nothing changes."""
    fixed, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at:at + 4], "big")
        if end + 4 > len(data):
            break
        fixed[end:end + 4] = zlib.crc32(data[at + 4:end]).to_bytes(4, "big")
        at = end + 4
    return bytes(fixed) if fixed != data else None


# ---- Chromium ----

PAGE = r"""<!doctype html><meta charset="utf-8"><title>viewer</title><body style="margin:0"><div id="box"></div><script>
const TILE = 2048, LARGE = 16 << 20, COMPARED = 64 << 20, CELLS = 8;

async function hash(buffer) {
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", buffer));
  return Array.from(sum.subarray(0, 8), byte => byte.toString(16).padStart(2, "0")).join("");
}

function canvas(width, height) {
  return new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
}

// All pixels of `source`, read in tiles, so that a large image needs no second copy of itself.
async function pixels(source, width, height) {
  const sums = [];
  for (let top = 0; top < height; top += TILE) {
    for (let left = 0; left < width; left += TILE) {
      const across = Math.min(TILE, width - left), down = Math.min(TILE, height - top);
      const context = canvas(across, down);
      context.drawImage(source, -left, -top);
      sums.push(await hash(context.getImageData(0, 0, across, down).data));
    }
  }
  return sums.length === 1 ? sums[0] : hash(new TextEncoder().encode(sums.join()));
}

const ENDS = {"image/jpeg": [0xff, 0xd9], "image/gif": [0x3b],
              "image/png": [0, 0, 0, 0, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82]};

// The mean colours of 8 by 8 areas, premultiplied: enough to tell whether rows are missing.
function grid(source, width, height) {
  const context = canvas(width, height);
  context.drawImage(source, 0, 0);
  const data = context.getImageData(0, 0, width, height).data, sums = new Float64Array(CELLS * CELLS * 5);
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++, at += 4) {
      const cell = ((y * CELLS / height | 0) * CELLS + (x * CELLS / width | 0)) * 5, alpha = data[at + 3];
      for (let channel = 0; channel < 3; channel++) sums[cell + channel] += data[at + channel] * alpha / 255;
      sums[cell + 3] += alpha;
      sums[cell + 4]++;
    }
  const means = [];
  for (let cell = 0; cell < sums.length; cell += 5)
    for (let channel = 0; channel < 4; channel++) means.push(Math.round(sums[cell + channel] / (sums[cell + 4] || 1)));
  return means;
}

// EXIF's number for a rotation (clockwise) and a flip of a VideoFrame.
const ORIENTATIONS = {"0 false": 1, "0 true": 2, "180 false": 3, "180 true": 4,
                      "90 true": 5, "90 false": 6, "270 true": 7, "270 false": 8};

async function look(bytes, type, ended = false) {
  const view = {shown: false, why: "", frames: [], durations: [], loop: null, css: null, orientation: 1};
  const blob = new Blob([bytes], {type}), address = URL.createObjectURL(blob);
  const image = new Image();
  let bitmap, decoder;
  try {
    view.why = "img";
    image.src = address;
    document.getElementById("box").append(image);
    await image.decode();
    view.css = [image.naturalWidth, image.naturalHeight];
    const painted = image.getBoundingClientRect();
    view.painted = [painted.width, painted.height];
    // An image without its end is painted, but neither a bitmap nor complete. Its page is all there is.
    view.width = image.naturalWidth;
    view.height = image.naturalHeight;
    view.page = await pixels(image, view.width, view.height);
    view.frames.push(view.page);
    view.painted_whole = true;
    view.why = "createImageBitmap";
    bitmap = await createImageBitmap(blob);
    view.painted_whole = false;
    view.width = bitmap.width;
    view.height = bitmap.height;
    if (view.width !== image.naturalWidth || view.height !== image.naturalHeight)
      view.frames[0] = await pixels(bitmap, bitmap.width, bitmap.height);
    view.why = "ImageDecoder";
    decoder = new ImageDecoder({data: bytes, type});
    await decoder.tracks.ready;
    await decoder.completed;
    const track = decoder.tracks.selectedTrack;
    view.loop = String(track.repetitionCount);
    view.animated = track.animated;
    // Of a very large animation all frames are decoded, but only some compared.
    const step = 1 + Math.floor(view.width * view.height * track.frameCount / COMPARED);
    for (let index = 0; index < track.frameCount; index++) {
      view.why = "frame " + index;
      const {image: frame, complete} = await decoder.decode({frameIndex: index});
      if (!complete) throw new Error("incomplete");
      if (index === 0) view.orientation = ORIENTATIONS[frame.rotation + " " + frame.flip];
      if (track.frameCount > 1) {
        if (index > 0) {
          const compared = index % step === 0 || index === track.frameCount - 1;
          view.frames.push(compared ? await pixels(frame, frame.displayWidth, frame.displayHeight) : "");
        }
        view.durations.push(frame.duration);
      }
      frame.close();
    }
    view.shown = view.css[0] > 0 && view.css[1] > 0 && track.frameCount > 0;
    view.why = "";
  } catch (error) {
    // A VideoFrame has at most 32,767 pixels a side; an image has not.
    if (view.why === "frame 0" && Math.max(view.width, view.height) > 32767) {
      view.shown = true;
      view.why = "";
    } else {
      view.why += ": " + error.message;
    }
    if (view.painted_whole && view.width * view.height <= LARGE) {
      view.grid = grid(image, view.width, view.height);
      if (ENDS[type] && !ended) {
        // An end that changes nothing was not needed.
        const whole = new Uint8Array(bytes.byteLength + ENDS[type].length);
        whole.set(new Uint8Array(bytes));
        whole.set(ENDS[type], bytes.byteLength);
        const other = await look(whole.buffer, type, true);
        if (other.shown && other.page === view.page) Object.assign(view, other, {end: "missing"});
      }
    }
  } finally {
    if (bitmap) bitmap.close();
    if (decoder) decoder.close();
    image.remove();
    URL.revokeObjectURL(address);
  }
  return view;
}

async function work() {
  for (;;) {
    const answer = await fetch("work", {cache: "no-store"});
    if (answer.status !== 200) continue;
    const whole = await answer.arrayBuffer();
    const length = new DataView(whole).getUint32(0);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(whole, 4, length)));
    let at = 4 + length;
    const views = {};
    for (const [number, type, size] of head.files) {
      views[number] = await look(whole.slice(at, at + size), type);
      at += size;
    }
    await fetch("done/" + head.batch, {method: "POST", body: JSON.stringify(views)});
  }
}
const lanes = Number(location.hash.slice(1));
for (let lane = 0; lane < lanes; lane++) work();
</script>"""


class Chromium:
    """A headless Chromium with one page, which fetches files from this process and sends back views."""

    def __init__(self, program="chromium", lanes=3):
        self.program, self.lanes = shutil.which(program) or sys.exit(f"missing: {program}; install it"), lanes
        self.jobs, self.waiting, self.lock = queue.Queue(), {}, threading.Lock()
        self.secret, self.process, self.awake = secrets.token_hex(8), None, threading.Event()
        self.version = subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout.strip()
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        # A browser that is stopped closes its connections.
        self.http.handle_error = lambda *_: None
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.start()

    def handler(self):
        chromium = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, body=b"", content_type="application/octet-stream"):
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                if self.path == f"/{chromium.secret}/":
                    return self.reply(200, PAGE.encode(), "text/html")
                if self.path != f"/{chromium.secret}/work":
                    return self.reply(404)
                chromium.awake.set()
                try:
                    body = chromium.jobs.get(timeout=10)
                except queue.Empty:
                    return self.reply(204)
                self.reply(200, body)

            def do_POST(self):
                views = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                future = chromium.waiting.pop(self.path.rpartition("/")[2], None)
                if future:
                    future.set_result(views)
                self.reply(200)

        return Handler

    def start(self):
        self.folder = tempfile.mkdtemp(prefix="viewers-")
        self.secret = secrets.token_hex(8)
        self.awake.clear()
        url = f"http://127.0.0.1:{self.http.server_address[1]}/{self.secret}/#{self.lanes}"
        # A session of its own, so that all its processes can be stopped by their group.
        self.process = subprocess.Popen([self.program, *FLAGS, f"--user-data-dir={self.folder}", url],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        if not self.awake.wait(STARTUP):
            self.stop()
            sys.exit(f"{self.program} opened no page within {STARTUP} seconds")

    def stop(self):
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)
            self.process = None

    def close(self):
        self.stop()
        self.http.shutdown()

    def send(self, files):
        batch = secrets.token_hex(8)
        head = [(str(number), f"image/{kind(data) or 'x-unknown'}", len(data)) for number, data in files]
        head = json.dumps({"batch": batch, "files": head}).encode()
        future = concurrent.futures.Future()
        self.waiting[batch] = future
        self.jobs.put(struct.pack(">I", len(head)) + head + b"".join(data for _, data in files))
        return future

    def look(self, files):
        """The views of all files, in their order."""
        views, todo, size = [None] * len(files), [], 0
        for number, data in enumerate(files):
            if not todo or len(todo[-1]) >= 16 or size + len(data) > 1 << 20:
                todo.append([])
                size = 0
            todo[-1].append((number, data))
            size += len(data)
        while todo:
            sent = [(batch, self.send(batch)) for batch in todo]
            todo, alone = [], []
            for position, (batch, future) in enumerate(sent):
                try:
                    result = future.result(timeout=TIMEOUT)
                except concurrent.futures.TimeoutError:
                    # A file crashed or blocked the page. It is in one of the batches that the page had begun. These
                    # are the first ones without an answer, one for each lane.
                    left = [(batch, other) for batch, other in sent[position:] if not other.done()]
                    alone = [file for batch, _ in left[:self.lanes] for file in batch]
                    todo = [batch for batch, _ in left[self.lanes:]]
                    sent = [(batch, other) for batch, other in sent[position:] if other.done()]
                    for batch, other in sent:
                        self.take(views, batch, other.result())
                    self.restart()
                    break
                self.take(views, batch, result)
            for file in alone:
                self.look_alone(file, views)
        self.look_past_checksums(files, views)
        return views

    def look_past_checksums(self, files, views):
        """Corrects the views of PNG files whose only fault is a checksum."""
        # Chromium calls a file with a wrong checksum of image data incomplete, but paints it. It paints all of it if
        # the right checksum changes nothing.
        copies = [(number, with_checksums(data)) for number, data in enumerate(files)
                  if kind(data) == "png" and not views[number]["shown"] and views[number].get("page")]
        copies = [(number, copy) for number, copy in copies if copy]
        for (number, _), other in zip(copies, self.look([copy for _, copy in copies]) if copies else ()):
            if other["shown"] and other["page"] == views[number]["page"]:
                views[number] = other | {"checksum": "wrong"}

    def take(self, views, batch, result):
        for number, _ in batch:
            views[number] = result[str(number)]

    def look_alone(self, file, views):
        try:
            self.take(views, [file], self.send([file]).result(timeout=TIMEOUT))
        except concurrent.futures.TimeoutError:
            views[file[0]] = {"shown": False, "why": "the page does not answer", "frames": [], "loop": None, "orientation": 1}
            self.restart()

    def restart(self):
        self.stop()
        self.waiting.clear()
        # Requests of the old page wait at the old queue, and take nothing from the new one.
        self.jobs = queue.Queue()
        self.start()


# ---- Pillow and libvips, in processes of their own ----

def start_worker():
    """Runs once in each worker."""
    os.environ["VIPS_CONCURRENCY"] = "1"
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    # libvips needs no cache here, and only the loaders of the four formats.
    global Image, pyvips
    warnings.simplefilter("ignore")
    from PIL import Image
    import pyvips, logging
    logging.disable(logging.CRITICAL)
    pyvips.cache_set_max(0)
    Image.init()
    Image.MAX_IMAGE_PIXELS = None


def pillow_view(data):
    view = {"shown": False, "why": "", "frames": [], "raw": [], "durations": [], "loop": None, "orientation": 1}
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
             7: "TRANSVERSE", 8: "ROTATE_90"}
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "GIF", "WEBP")) as image:
            # Further pictures of such a file are not frames of the first one.
            count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            if image.width * image.height > LARGEST or count > 2000:
                raise ValueError(f"{image.width}x{image.height}, {count} frames: more than the limit of this script")
            view["loop"] = image.info.get("loop")
            # All frames of a very large animation are decoded, but only some are compared.
            step = 1 + image.width * image.height * count // (64 << 20)
            for index in range(count):
                image.seek(index)
                image.load()
                same = image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
                if index % step and index < count - 1:
                    view["raw"].append("")
                    view["frames"].append("")
                    view["durations"].append(image.info.get("duration"))
                    continue
                raw = image.convert("RGBA") if same else image.copy()
                view["raw"].append(digest(raw.mode.encode() + raw.tobytes()))
                if index == 0:
                    turn = image.getexif().get(0x0112)
                    view["orientation"] = turn if turn in turns else 1
                turned = raw
                if view["orientation"] in turns:
                    turned = raw.transpose(getattr(Image.Transpose, turns[view["orientation"]]))
                view["frames"].append(digest(turned.mode.encode() + turned.tobytes()))
                if count > 1:
                    view["durations"].append(image.info.get("duration"))
                if index == 0:
                    view["width"], view["height"] = turned.size
        view["shown"] = True
    except Exception as error:
        view["why"] = f"{type(error).__name__}: {error}"[:200]
    return view


def vips_view(data):
    view = {"shown": False, "why": "", "frames": [], "raw": [], "durations": [], "loop": None, "orientation": 1}
    try:
        options = {"n": -1} if kind(data) in ("gif", "webp") else {}
        open_ = lambda: pyvips.Image.new_from_buffer(data, "", fail_on="error", **options)
        image = open_()
        if image.width * image.height > LARGEST and options:
            # The pages of an animation lie below each other; only the first one is used.
            options["n"] = 1
            image = open_()
        if image.width * image.height > LARGEST:
            raise ValueError(f"{image.width}x{image.height}: more than the limit of this script")
        get = lambda name: image.get(name) if image.get_typeof(name) else None
        loader = get("vips-loader") or ""
        if not loader.startswith(("jpeg", "uhdr", "png", "gif", "webp")):
            raise ValueError(f"loaded by {loader}")
        view["gain_map"], view["apple"] = None, b"http://ns.apple.com/HDRGainMap/" in data
        if image.get_typeof("gainmap-data"):
            # Set if libultrahdr found and understood it.
            settings = [f"{name} {image.get(name)}" for name in image.get_fields()
                        if name.startswith("gainmap-") and name != "gainmap-data"]
            view["gain_map"] = [digest(without_metadata(image.get("gainmap-data"))), *sorted(settings)]
        view["raw"] = [digest(image.write_to_memory())]
        orientation = get("orientation")
        view["orientation"] = orientation if orientation in range(2, 9) else 1
        turned = image
        if view["orientation"] != 1:
            turned = open_().copy_memory().autorot()
        view["frames"] = [digest(turned.write_to_memory())] if turned is not image else list(view["raw"])
        view["width"], view["height"] = turned.width, get("page-height") or turned.height
        view["durations"], view["loop"] = get("delay") or [], get("loop")
        view["pages"] = get("n-pages") or 1
        view["shown"] = True
    except Exception as error:
        # The text of an error begins with messages of earlier files.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        view["why"] = lines[-1][:200]
    return view


def grid_here(data):
    """The digest of an image that Chromium paints without calling it complete; None if no library shows it."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "GIF", "WEBP")) as image:
            image.load()
            from PIL import ImageOps
            flat = ImageOps.exif_transpose(image).convert("RGBA")
    except Exception:
        try:
            image = pyvips.Image.new_from_buffer(data, "", fail_on="error").autorot().colourspace("srgb").cast("uchar")
            mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[image.bands]
            flat = Image.frombytes(mode, (image.width, image.height), image.write_to_memory()).convert("RGBA")
        except Exception:
            return None
    pixels, (width, height), cells = flat.tobytes(), flat.size, 8
    sums = [0] * (cells * cells * 5)
    at = 0
    for y in range(height):
        for x in range(width):
            cell = ((y * cells // height) * cells + x * cells // width) * 5
            alpha = pixels[at + 3]
            for channel in range(3):
                sums[cell + channel] += pixels[at + channel] * alpha / 255
            sums[cell + 3] += alpha
            sums[cell + 4] += 1
            at += 4
    return [round(sums[cell + channel] / (sums[cell + 4] or 1)) for cell in range(0, len(sums), 5) for channel in range(4)]


def alike(one, other):
    """Whether two grids show the same picture. Colour management and decoders change a mean slightly."""
    if not one or not other or len(one) != len(other):
        return False
    differences = [abs(a - b) for a, b in zip(one, other)]
    return max(differences[3::4]) <= 4 and sum(differences) / len(differences) < 8


def views_here(data):
    return pillow_view(data), vips_view(data)


class Libraries:
    """Pillow and libvips in a few processes, each of which may crash."""

    def __init__(self, processes=None):
        self.processes = processes or os.cpu_count() or 2
        self.pool = None

    def start(self):
        import multiprocessing
        self.pool = concurrent.futures.ProcessPoolExecutor(
            self.processes, mp_context=multiprocessing.get_context("spawn"), initializer=start_worker)

    def close(self):
        if self.pool:
            for process in list((self.pool._processes or {}).values()):
                process.kill()
            self.pool.shutdown(wait=False, cancel_futures=True)
            self.pool = None

    def look(self, files):
        """Pairs of views, of Pillow and of libvips, in the order of the files."""
        if not self.pool:
            self.start()
        futures = [self.pool.submit(views_here, data) for data in files]
        views, broken = [], False
        for data, future in zip(files, futures):
            try:
                # After a crash, the remaining files are read one by one, to find the one that crashes.
                views.append((self.pool.submit(views_here, data) if broken else future).result(timeout=TIMEOUT))
                continue
            except (concurrent.futures.process.BrokenProcessPool, concurrent.futures.TimeoutError,
                    concurrent.futures.CancelledError):
                self.close()
                self.start()
            try:
                views.append(self.pool.submit(views_here, data).result(timeout=TIMEOUT))
            except (concurrent.futures.process.BrokenProcessPool, concurrent.futures.TimeoutError):
                lost = {"shown": False, "why": "the library crashed or did not return", "frames": [], "raw": [],
                        "orientation": 1}
                views.append((lost, dict(lost)))
                self.close()
                self.start()
            broken = True
        return views

    def grid(self, data):
        try:
            return self.pool.submit(grid_here, data).result(timeout=TIMEOUT)
        except (concurrent.futures.process.BrokenProcessPool, concurrent.futures.TimeoutError):
            self.close()
            self.start()
            return None


class Judges:
    """All three viewers. Each file is read once and its views are kept."""

    def __init__(self):
        self.chromium, self.libraries, self.seen = Chromium(), Libraries(), {}

    def look(self, files):
        """A dictionary of three views for each file, in the order of the files."""
        keys = [hashlib.sha256(data).digest() for data in files]
        fresh = {key: data for key, data in zip(keys, files) if key not in self.seen}
        with concurrent.futures.ThreadPoolExecutor(2) as both:
            browser = both.submit(self.chromium.look, list(fresh.values()))
            libraries = both.submit(self.libraries.look, list(fresh.values()))
            for key, chromium, (pillow, vips) in zip(fresh, browser.result(), libraries.result(), strict=True):
                # Chromium paints an image without its end, whether or not rows are missing. It shows all of it if a
                # strict library does and paints the same. libvips is not strict with GIF: it accepts missing pixels.
                strict = pillow["shown"] or vips["shown"] and kind(fresh[key]) != "gif"
                if not chromium["shown"] and chromium.get("grid") and strict:
                    chromium["shown"] = alike(chromium["grid"], self.libraries.grid(fresh[key]))
                self.seen[key] = {"chromium": chromium, "pillow": pillow, "libvips": vips}
        return [self.seen[key] for key in keys]

    def forget(self):
        self.seen.clear()

    def close(self):
        self.chromium.close()
        self.libraries.close()


# ---- Whether two views are the same picture ----

COMPARED = ("width", "height", "css", "painted", "page", "frames", "durations", "loop", "gain_map")


def difference(viewer, before, after):
    """None if `after` looks like `before` in this viewer; else a text that says what differs."""
    old, new = before[viewer], after[viewer]
    if not old["shown"]:
        return None
    if not new["shown"]:
        return f"no longer shown: {new['why']}"
    differing = [name for name in COMPARED if old.get(name) != new.get(name)]
    if viewer == "chromium" and old["loop"] is None:
        # ImageDecoder and createImageBitmap refused the original, so only the painted page can be compared.
        differing = [name for name in differing if name in ("css", "painted", "page")]
    if viewer == "chromium" and len(old["frames"]) == len(new["frames"]) == 1:
        # A single frame repeats nothing, although its repetition count changes when the rest of an animation is
        # dropped.
        differing = [name for name in differing if name != "loop"]
    if old.get("apple") and old["gain_map"] is None:
        # libultrahdr ignores some of Apple's gain maps as cameras write them. Rule 5 compares their bytes.
        differing = [name for name in differing if name != "gain_map"]
    if not differing:
        return None
    guide = before["chromium"]
    if viewer != "chromium" and guide.get("page"):
        # If viewers disagree about the original, no file suits all of them, and Chromium's view decides.
        if old["raw"] == new["raw"] and new["orientation"] in (old["orientation"], guide["orientation"]):
            differing = [name for name in differing if name not in ("width", "height", "frames")]
        if viewer == "pillow" and len(old["frames"]) != len(guide["frames"]) and old["raw"][:1] == new["raw"][:1]:
            differing = [name for name in differing if name not in ("frames", "durations", "loop")]
        if viewer == "libvips" and old.get("pages") != len(guide["frames"]) and old.get("pages") != 1:
            differing = [name for name in differing if name not in ("frames", "durations", "loop")]
    if not differing:
        return None
    said = lambda view, name: str(view.get(name))[:60]
    return ", ".join(f"{name} {said(old, name)} became {said(new, name)}" for name in differing[:3])


def size(view):
    """`64x48`, with the number of frames of an animation, or `not shown`."""
    if not view["shown"]:
        return "not shown"
    frames = view.get("pages") or len(view["frames"])
    return f"{view['width']}x{view['height']}" + (f" ({frames} frames)" if frames > 1 else "")
