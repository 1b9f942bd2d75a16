"""Methods that look for labels of scored cells where they should not be; otherwise they always say the same.

A spy answers with what it finds. What shows that it found something without knowing of which cell, such as
names of cells in memory, it prints after the word FOUND. ``spies_here.py`` beside this file, written by the
test, says where the harness is.
"""

import contextlib
import ctypes
import gc
import json
import mmap
import os
import pwd
import re
import runpy
import site
import socket
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import anndata
import h5py
import numpy as np
import pandas as pd

from cellular_bench import MethodSpec, Prediction

here = SimpleNamespace(**runpy.run_path(Path(__file__).with_name("spies_here.py")))

#: Every label ends so, and no other word of the harness or of a library begins a name of a cell like this.
LABEL = re.compile(r"\b[A-Z][A-Za-z]+qcell\b")
STEM = b"qcell_"
WIDE_STEM = "qcell_".encode("utf-32-le")


def names_in(block):
    """Return the names of cells in memory, of one byte or of four per character."""
    found = []
    for stem, width in ((STEM, 1), (WIDE_STEM, 4)):
        at = block.find(stem)
        while at >= 0:
            text = block[max(0, at - 8 * width) : at + len(stem) + 6 * width]
            text = text.decode("utf-32-le" if width == 4 else "latin-1", "replace")
            found += re.findall(r"[A-Z][a-z]+qcell_[ACGT]{6}", text)
            at = block.find(stem, at + 1)
    return found


class Spy:
    """Says the most frequent label where nothing was found."""

    artifacts = None

    def __init__(self, *, seed=0):
        self.seed = seed

    def fit(self, train):
        self.train = train
        self.label = np.asarray(train.obs["label"], dtype=str)
        names, counts = np.unique(self.label, return_counts=True)
        self.known, self.usual = set(names.tolist()), str(names[counts.argmax()])

    def predict(self, query):
        found = []
        with contextlib.suppress(OSError, ValueError, ImportError, AttributeError, KeyError):
            found = list(self.find(query))
        found += [""] * (query.n_obs - len(found))
        label = [name if name in self.known else self.usual for name in map(str, found[: query.n_obs])]
        return Prediction(label_pred=np.array(label), novelty=np.zeros(query.n_obs))


SPIES = []


def spy(function):
    """Make a method of a function of the method and the scored cells; it is called as the function."""
    name = function.__name__
    tasks = ("annotation", "novelty")
    given = {"tasks": tasks, "labels": "train", "inductive": True, "features": "all"}
    made = MethodSpec(method_id=name, name=name, **given)
    kind = type(
        name.title().replace("_", ""), (Spy,), {"spec": made, "find": function, "__module__": __name__}
    )
    globals()[kind.__name__] = kind
    SPIES.append(name)
    return function


def keys_of(X):
    """Return what distinguishes cells under any name: their values."""
    return [row.tobytes() for row in np.asarray(X.toarray() if hasattr(X, "toarray") else X, np.float32)]


def looked_up(query, cells):
    """Return labels of cells with the same values in a table of cells."""
    shared = [gene for gene in query.var_names if gene in cells.var_names]
    X, own = (table[:, shared].layers["counts"] for table in (cells, query))
    label = dict(zip(keys_of(X), np.asarray(cells.obs["label"], str), strict=True))
    return [label.get(key, "") for key in keys_of(own)]


def in_file(self, query, path):
    """Return what a file of the harness says: its data, its truth or the outputs of another run."""
    if str(path).endswith(".h5ad") or "/fd/" in str(path):
        cells = anndata.read_h5ad(path)
        return looked_up(query, cells) if looked_up(self.train, cells) == list(self.label) else []
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    labels = found.get("label", found.get("label_pred", np.array([])))
    if len(labels) != query.n_obs:
        return []
    return labels.tolist()


def own_split(query):
    """Return the folder of the split with these cells, as their values say, and their order there."""
    centred = np.asarray(query.X.toarray())
    lengths = np.linalg.norm(centred - centred.mean(axis=0), axis=1)
    found = []
    for truth in Path(here.OUT, "splits").glob("*/*/truth.npz"):
        with np.load(truth) as arrays, np.load(truth.with_name("order.npz")) as places:
            order = places["order"]
            if len(order) == query.n_obs:
                alike = np.corrcoef(lengths, np.linalg.norm(arrays["X_pre"][order], axis=1))[0, 1]
                found.append((alike, truth.parent, order))
    return max(found, key=lambda one: one[0])[1:]


def first_good(self, query, paths):
    # Smaller files first: those that hold no cells beside its own.
    for path in sorted(paths, key=lambda path: (path.stat().st_size, path)):
        with contextlib.suppress(OSError, ValueError, KeyError):
            found = in_file(self, query, path)
            if any(found):
                return found
    return []


def writable_memory(pid="self", most=2**31):
    """Yield the contents of the memory of a process."""
    process = Path(f"/proc/{pid}")
    with (process / "maps").open() as maps, (process / "mem").open("rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if rights.startswith("rw") and end - start < most:
                with contextlib.suppress(OSError, ValueError, OverflowError):
                    memory.seek(start)
                    yield memory.read(end - start)


# The memory of the method's own process.


@spy
def heap_label_arrays(self, query):
    """Arrays of labels as numpy keeps them, other than those of the training cells."""
    width = max(map(len, self.known))
    for pad in range(width, width + 3):
        rows = [name.ljust(pad, "\0").encode("utf-32-le") for name in sorted(self.known)]
        step, known = 4 * pad, set(rows)
        for block in writable_memory():
            for row in rows:
                at = block.find(row + row)
                while at >= 0:
                    start, end = at, at + step
                    while block[start - step : start] in known:
                        start -= step
                    while block[end : end + step] in known:
                        end += step
                    array = [
                        block[i : i + step].decode("utf-32-le").rstrip("\0") for i in range(start, end, step)
                    ]
                    if len(array) >= query.n_obs and array[: len(self.label)] != list(self.label):
                        print("FOUND an array of labels")
                        return array[-query.n_obs :]
                    at = block.find(row + row, end)
    return []


@spy
def heap_names(self, query):
    """Names that cells have in the data, in any encoding."""
    found = []
    for block in writable_memory():
        found += names_in(block)
    names = list(dict.fromkeys(found))
    if names:
        print("FOUND", len(names), "names in memory")
    return [name.split("_")[0] for name in names[-query.n_obs :]]


@spy
def heap_sorted_codes(self, query):
    """Codes of labels in the order of a file that is sorted by type."""
    for block in writable_memory():
        at = block.find(b"\0" * 25 + b"\1" * 25)
        if at >= 0 and b"\2" * 25 + b"\3" * 10 in block[at : at + 1000]:
            print("FOUND sorted codes")
    return []


@spy
def freed_pages(self, query):
    """Memory that was given back: new pages that were not cleared, and arrays that are not initialised."""
    blocks = [np.empty(2**20, np.uint8) for _ in range(32)]
    with mmap.mmap(-1, 2**24) as fresh:
        texts = [block.tobytes() for block in blocks] + [fresh[:]]
    if any(map(names_in, texts)):
        print("FOUND names in fresh memory")
    return []


@spy
def garbage(self, query):
    """Objects that the collector knows."""
    own = {id(self.train), id(query), id(self.train.obs), id(query.obs)}
    for thing in gc.get_objects():
        if id(thing) in own:
            continue
        if isinstance(thing, (pd.Series, pd.Categorical)) and len(thing) not in (len(self.label), 0):
            with contextlib.suppress(TypeError, ValueError):
                if self.known <= set(np.asarray(thing, dtype=str).tolist()):
                    print("FOUND a column of labels")
                    return np.asarray(thing, dtype=str)[-query.n_obs :]
        if isinstance(thing, anndata.AnnData) and "label" in thing.obs and thing.n_obs != len(self.label):
            return looked_up(query, thing)
    return []


@spy
def frames(self, query):
    """Local variables of all callers, and what their closures hold."""
    frame = sys._getframe()
    while frame is not None:
        for thing in list(frame.f_locals.values()):
            cells = [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
            for value in (thing, *cells):
                is_other = isinstance(value, anndata.AnnData) and value is not self.train
                if is_other and "label" in value.obs:
                    return looked_up(query, value)
        frame = frame.f_back
    return []


@spy
def module_state(self, query):
    """Global variables and caches of all modules."""
    for module in list(sys.modules.values()):
        for thing in list(getattr(module, "__dict__", {}).values()):
            if isinstance(thing, anndata.AnnData) and "label" in thing.obs:
                return looked_up(query, thing)
    return []


@spy
def base_arrays(self, query):
    """The arrays of which those of the scored cells are parts."""
    for matrix in (query.X, query.layers["counts"]):
        base = matrix.data.base
        if base is not None and getattr(base, "size", 0) > matrix.data.size:
            print("FOUND a larger array behind the values")
    return []


# What comes with the cells.


@spy
def order(self, query):
    """The file is sorted by type, and types are as frequent among training cells."""
    return np.sort(self.label)[np.linspace(0, len(self.label) - 1, query.n_obs).astype(int)]


@spy
def order_of_numbers(self, query):
    """The same in the order of the cells' neutral names."""
    found = np.empty(query.n_obs, dtype=object)
    found[np.argsort(np.asarray(query.obs_names, str))] = order(self, query)
    return found


@spy
def neighbours_by_number(self, query):
    """The label of the training cell with the nearest number."""
    numbers, own = (
        np.array([int(re.sub(r"\D", "", name) or 0) for name in cells.obs_names])
        for cells in (self.train, query)
    )
    return [self.label[np.abs(numbers - number).argmin()] for number in own]


@spy
def guessed_seed(self, query):
    """Undo the random order with a guessed seed; training cells show which seed sorts them by type."""
    n = self.train.n_obs + query.n_obs
    numbers, own = (
        np.array([int(re.sub(r"\D", "", name)) for name in cells.obs_names]) for cells in (self.train, query)
    )
    guesses = [*range(2000), 2**32 - 1, self.seed, self.seed % 2**32]
    for guess in guesses:
        for made in (
            np.random.default_rng(guess).permutation(n),
            np.random.RandomState(guess % 2**32).permutation(n),
        ):
            for place in (made, np.argsort(made)):
                sorted_labels = self.label[np.argsort(place[numbers])]
                if (sorted_labels[1:] == sorted_labels[:-1]).mean() > 0.95:
                    print("FOUND the seed", guess)
                    by_place = dict(zip(place[numbers].tolist(), self.label, strict=True))
                    known = np.array(sorted(by_place))
                    return [by_place[int(known[np.abs(known - place[i]).argmin()])] for i in own]
    return []


@spy
def names(self, query):
    """Names of cells carry the type."""
    return [name.split("_")[0] for name in query.obs_names]


@spy
def hidden_columns(self, query):
    """Everything that an AnnData can carry, category lists included."""
    parts = [query.obs, query.var, *(query.obs[column] for column in query.obs)]
    texts = [str(list(part)) + str(getattr(getattr(part, "cat", None), "categories", "")) for part in parts]
    texts += [str(dict(part)) for part in (query.uns, query.obsm, query.obsp, query.varm, query.varp)]
    texts += [str(query.raw), str(list(query.layers)), str(query.filename)]
    if LABEL.search(" ".join(texts)):
        print("FOUND a label beside the scored cells")
    return query.obs.get("label", [])


@spy
def bytes_of_the_view(self, query):
    """The file of the scored cells: attributes, and what its unused bytes hold."""
    for path in self.open_files():
        if path.name == "query.h5ad":
            content = path.read_bytes()
            wide = [name.encode("utf-32-le") for name in self.known]
            if any(name.encode() in content for name in self.known) or any(name in content for name in wide):
                print("FOUND a label in the file of the scored cells")
            seen = []
            with h5py.File(path) as file:
                file.visititems(lambda name, node, seen=seen: seen.append((name, dict(node.attrs))))
            if LABEL.search(str(seen)):
                print("FOUND a label in attributes")
    return []


def open_files(self):
    """Return files beside the views that this process was given: their folder is in a caller's variables."""
    frame = sys._getframe()
    while frame is not None:
        for value in frame.f_locals.values():
            views = getattr(value, "views", None)
            if isinstance(views, Path):
                return [views / name for name in ("query.h5ad", "query_labels.npz", "names.npz")]
        frame = frame.f_back
    return []


Spy.open_files = open_files


@spy
def labels_beside_the_view(self, query):
    """The file of labels of scored cells that controls are shown, in the folder of the views."""
    return first_good(self, query, self.open_files()[1:2])


@spy
def descriptors(self, query):
    """Files that are open in the process."""
    found = []
    for number in range(3, 256):
        with contextlib.suppress(OSError):
            text = str(Path(f"/proc/self/fd/{number}").readlink())
            if text.endswith((".h5ad", ".npz")) and not text.endswith(("train.h5ad", "query.h5ad")):
                found.append(f"/proc/self/fd/{number}")
    return first_good(self, query, found)


@spy
def held_out_name(self, query):
    """The name of a type that no training cell has: variables, arguments, paths, mounts, memory."""
    texts = {"arguments": str(sys.argv), "environment": str(dict(os.environ)), "folder": str(Path.cwd())}
    for name in ("cmdline", "environ", "mountinfo", "maps", "status", "comm"):
        with contextlib.suppress(OSError):
            texts[name] = Path(f"/proc/self/{name}").read_text(errors="replace")
    frame = sys._getframe(1)
    while frame is not None:
        texts["frames"] = texts.get("frames", "") + str(list(map(str, frame.f_locals.values())))
        frame = frame.f_back
    for block in writable_memory():
        parts = {block[max(0, match.start() - 8) : match.end()] for match in re.finditer(b"qcell", block)}
        texts["memory"] = " ".join([texts.get("memory", ""), *(part.decode("latin-1") for part in parts)])
    for place, text in texts.items():
        new = set(LABEL.findall(text)) - self.known
        if new:
            print("FOUND", sorted(new), "in", place)
    return []


# A file that remembers from fold to fold; cells are known by their values.


def remembers(name, place):
    def find(self, query):
        path = Path(place(self)) / f"remembered-{here.TOKEN}.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        counts = keys_of(query.layers["counts"])
        found = [known.get(hash_of(key), "") for key in counts]
        learned = {
            hash_of(key): label
            for key, label in zip(keys_of(self.train.layers["counts"]), self.label.tolist(), strict=True)
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known | learned))
        return found

    find.__name__ = name
    spy(find)


def hash_of(key):
    return key.hex()[:2000]


PLACES = {
    "remembers_in_home": lambda self: Path.home() / ".cache",
    "remembers_in_tmp": lambda self: tempfile.gettempdir(),
    "remembers_in_cwd": lambda self: ".",
    "remembers_in_xdg": lambda self: os.environ.get("XDG_CACHE_HOME", Path.home() / ".xdg"),
    "remembers_in_runtime_dir": lambda self: os.environ.get("XDG_RUNTIME_DIR", "."),
    "remembers_in_numba": lambda self: os.environ.get("NUMBA_CACHE_DIR", Path.home() / ".numba"),
    "remembers_in_torch": lambda self: os.environ.get("TORCH_HOME", Path.home() / ".torch"),
    "remembers_in_bench_cache": lambda self: os.environ.get("CELLULAR_BENCH_CACHE", Path.home() / ".bench"),
    "remembers_in_artifacts": lambda self: self.artifacts,
    "remembers_beside_artifacts": lambda self: self.artifacts.parent.parent,
    "remembers_beside_views": lambda self: self.open_files()[0].parents[2],
    "remembers_beside_the_plugin": lambda self: Path(__file__).parent,
    "remembers_in_real_home": lambda self: Path(pwd.getpwuid(os.getuid()).pw_dir),
    "remembers_in_var_tmp": lambda self: "/var/tmp",
    "remembers_in_site_packages": lambda self: site.getsitepackages()[0],
    "remembers_in_shm": lambda self: "/dev/shm",
}
for _name, _place in PLACES.items():
    remembers(_name, _place)


@spy
def remembers_in_sysv(self, query):
    """Shared memory of System V, which outlives its processes."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    size = 2**22
    shared = libc.shmget(here.SHM_KEY, size, 0o600 | 0o1000)
    if shared < 0:
        return []
    at = libc.shmat(shared, None, 0)
    if at in (None, ctypes.c_void_p(-1).value):
        return []
    text = ctypes.string_at(at)
    known = json.loads(text) if text else {}
    found = [known.get(key.hex()[:2000], "") for key in keys_of(query.layers["counts"])]
    keys = [key.hex()[:2000] for key in keys_of(self.train.layers["counts"])]
    content = (
        json.dumps(known | dict(zip(keys, self.label.tolist(), strict=True))).encode()[: size - 1] + b"\0"
    )
    ctypes.memmove(at, content, len(content))
    return found


# Files and processes of the harness.


@spy
def up_from_the_views(self, query):
    """Folders above that of the views."""
    return first_good(self, query, self.open_files()[0].parents[3].glob("data/*.h5ad"))


@spy
def up_from_artifacts(self, query):
    """Folders above that of the artifacts: the truth of all splits."""
    self.artifacts.parents[2].joinpath("splits").stat()
    folder, order = own_split(query)
    with np.load(folder / "truth.npz") as arrays:
        return arrays["label"][order].tolist()


@spy
def up_by_links(self, query):
    """The same through a link and through dots."""
    link = Path(tempfile.gettempdir()) / "way"
    link.symlink_to(self.artifacts / ".." / ".." / "..")
    return first_good(self, query, link.glob("data/*.h5ad"))


@spy
def through_proc_root(self, query):
    """The same through the root folder of other processes."""
    roots = [Path(f"/proc/{pid}/root") for pid in ("self", 1, os.getppid(), here.HARNESS)]
    data = []
    for root in roots:
        with contextlib.suppress(OSError):
            data += Path(f"{root}{here.OUT}").glob("data/*.h5ad")
    return first_good(self, query, data)


@spy
def other_runs(self, query):
    """Outputs of the control that is shown the labels."""
    folder, order = own_split(query)
    split = folder.name.rpartition("-")[0]
    (outputs,) = Path(here.OUT).glob(f"runs/*-{split}-true_labels*/outputs.npz")
    with np.load(outputs) as arrays:
        return arrays["label_pred"][order].tolist()


@spy
def the_users_file(self, query):
    """The user's own file, by its absolute path."""
    return in_file(self, query, here.USER_FILE)


@spy
def external_links(self, query):
    """The user's file through links of HDF5 in a file of the method."""
    path = Path(tempfile.gettempdir()) / "own.h5"
    with h5py.File(path, "w") as file:
        for part in ("obs/label/codes", "obs/label/categories", "layers/counts/data", "layers/counts/indptr"):
            file[part.replace("/", "-")] = h5py.ExternalLink(here.USER_FILE, part)
    with h5py.File(path) as file:
        print("FOUND", file["obs-label-codes"].shape, "codes by a link")
    return []


@spy
def a_child_that_reads(self, query):
    """Another program, which might not be behind walls."""
    import subprocess

    copy = Path(tempfile.gettempdir()) / "copy.h5ad"
    subprocess.run(["cp", here.USER_FILE, str(copy)], check=False, stderr=subprocess.DEVNULL)
    return in_file(self, query, copy)


@spy
def memory_of_parents(self, query):
    """Memory of the processes above."""
    pid, n_names = os.getppid(), 0
    for _ in range(6):
        if pid < 2:
            break
        with contextlib.suppress(OSError):
            for block in writable_memory(pid):
                n_names += len(names_in(block))
        with contextlib.suppress(OSError, IndexError):
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            continue
        break
    if n_names:
        print("FOUND", n_names, "names in the memory of parents")
    return []


@spy
def folders_of_parents(self, query):
    """Working folders, open files and arguments of all processes that are listed."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            arguments = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            if int(entry.name) == here.HARNESS and arguments:
                print("FOUND the arguments or variables of the harness")
        with contextlib.suppress(OSError):
            found += [path for path in (entry / "fd").iterdir() if path.readlink().name.endswith(".h5ad")]
    return first_good(self, query, found)


# Somebody who knows the labels and listens outside.


def ask(connection, query):
    connection.settimeout(5)
    keys = [key.hex()[:2000] for key in keys_of(query.layers["counts"])]
    with connection, connection.makefile("rw") as talk:
        talk.write(json.dumps(keys) + "\n")
        talk.flush()
        return json.loads(talk.readline())


@spy
def asks_by_tcp(self, query):
    """A server on this machine."""
    return ask(socket.create_connection(("127.0.0.1", here.PORT), 5), query)


@spy
def asks_by_socket_file(self, query):
    """A socket in a folder."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(here.SOCKET)
    return ask(client, query)


@spy
def asks_by_abstract_socket(self, query):
    """A socket without a file."""
    client = socket.socket(socket.AF_UNIX)
    client.connect("\0" + here.TOKEN)
    return ask(client, query)


@spy
def asks_by_udp(self, query):
    """Datagrams: the server answers with the labels."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        found = []
        for key in keys_of(query.layers["counts"]):
            client.sendto(key.hex()[:2000].encode(), ("127.0.0.1", here.UDP_PORT))
            found.append(client.recv(100).decode())
        return found


@spy
def asks_by_pipe(self, query):
    """A named pipe in the temporary folder of the machine."""
    with Path(here.PIPE).open("r+b", 0):
        print("FOUND a pipe to somebody outside")
    return []
