#!/usr/bin/env python3
"""Verifies a Postern audit log without any code of Postern.

Usage: verify.py [--key VKEY|FILE]... [--anchors DIR] [--recordings DIR] [--partial] DIR

It was written from docs/audit-format.md and the C2SP and RFC documents that
names, needs Python 3.8 and nothing else, and reads the log only. Exit status:
0 nothing is wrong, 1 something is, 2 it could not be decided.
"""

import argparse
import array
import base64
import collections
import functools
import hashlib
import json
import os
import re
import sys

HASH = 32
CLOCK_STEP, CLOCK_NOTICE, UNSIGNED = 10_000, 5_000, 300_000  # milliseconds
LONGEST_LINE = 1 << 20


class Undecided(Exception):
    """The log can't be judged."""


# ---------------------------------------------------------------- Ed25519, RFC 8032

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def point_add(p, q):
    """Adds points in extended coordinates (section 5.1.4)."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_mul(s, p):
    q = (0, 1, 1, 0)
    while s:
        if s & 1:
            q = point_add(q, p)
        p = point_add(p, p)
        s >>= 1
    return q


def recover_x(y, sign):
    """Section 5.1.3; None if there is no such point."""
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * SQRT_M1 % P
    if (x * x - x2) % P or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


def point_decode(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def point_encode(p):
    z = pow(p[2], P - 2, P)
    x, y = p[0] * z % P, p[1] * z % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = (recover_x(BASE_Y, 0), BASE_Y, 1, recover_x(BASE_Y, 0) * BASE_Y % P)


@functools.lru_cache(maxsize=100_000)
def ed25519_verify(public, message, signature):
    a = point_decode(public)
    if a is None or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    if s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    minus_a = (P - a[0], a[1], 1, P - a[3])
    return point_encode(point_add(point_mul(s, BASE), point_mul(k, minus_a))) == signature[:32]


# ---------------------------------------------------------------- C2SP signed-note and tlog-checkpoint

Key = collections.namedtuple("Key", "name id public")
Checkpoint = collections.namedtuple("Checkpoint", "origin size root signers text")


def strict_base64(text):
    """Decodes what encodes to the same text again, and nothing else."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data) != text:
        raise ValueError("it is not written as base64 should be")
    return data


def parse_key(text):
    name, key_id, data = text.split("+", 2)
    data = base64.b64decode(data, validate=True)
    want = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
    if not name or want.hex() != key_id.lower() or len(data) != 33 or data[0] != 1:
        raise ValueError("%.100r is no Ed25519 verifier key" % text)
    return Key(name, want, data[1:])


def parse_keys(text):
    lines = (line.strip() for line in text.splitlines())
    return [parse_key(line) for line in lines if line and not line.startswith("#")]


def open_checkpoint(data, keys):
    """Returns the Checkpoint that data is; ValueError if it is not one that a
    key signed which has the name of its origin, or a known signature is bad."""
    text, found, sigs = data.rpartition(b"\n\n")
    if not found or not sigs.endswith(b"\n"):
        raise ValueError("it is no signed note")
    text += b"\n"
    data.decode("utf-8")
    if any(byte < 32 and byte != 10 for byte in data):
        raise ValueError("it has control characters")
    signers = []
    for line in sigs[:-1].split(b"\n"):
        mark, name, sig = line.split(b" ")
        raw = strict_base64(sig)
        if mark != "\u2014".encode() or not name or len(raw) < 5:
            raise ValueError("it has a malformed signature")
        for key in keys:
            if key.name.encode() == name and key.id == raw[:4] and key not in signers:
                if not ed25519_verify(key.public, text, raw[4:]):
                    raise ValueError("the signature of %s is not good" % key.name)
                signers.append(key)
    lines = text.decode().split("\n")
    if len(lines) != 4 or not re.fullmatch("0|[1-9][0-9]{0,17}", lines[1]):
        raise ValueError("it is no checkpoint")
    root = strict_base64(lines[2].encode())
    if len(root) != HASH or not any(key.name == lines[0] for key in signers):
        raise ValueError("no key of the log %s signed it" % lines[0])
    return Checkpoint(lines[0], int(lines[1]), root, signers, data)


# ---------------------------------------------------------------- RFC 6962 trees


def leaf_hash(line):
    return hashlib.sha256(b"\0" + line).digest()


class Tree:
    """All complete nodes, by level: levels[k][i] covers 2^k leaves."""

    def __init__(self):
        self.levels = [[]]

    def size(self):
        return len(self.levels[0])

    def append(self, leaf):
        """Adds a leaf; returns it and the nodes that it completes, lowest
        first, which is the order of hashes.bin."""
        made, node, level = [leaf], leaf, 0
        self.levels[0].append(leaf)
        while len(self.levels[level]) % 2 == 0:
            left = self.levels[level][-2]
            node = hashlib.sha256(b"\1" + left + node).digest()
            level += 1
            if level == len(self.levels):
                self.levels.append([])
            self.levels[level].append(node)
            made.append(node)
        return made

    def root(self, size):
        """Section 2.1 of RFC 6962, of the first leaves."""
        return self.subtree(0, size) if size else hashlib.sha256().digest()

    def subtree(self, low, high):
        width = high - low
        if width & (width - 1) == 0:
            return self.levels[width.bit_length() - 1][low // width]
        split = 1 << (width - 1).bit_length() - 1
        return hashlib.sha256(b"\1" + self.subtree(low, low + split) + self.subtree(low + split, high)).digest()


# ---------------------------------------------------------------- the log


def no_constant(name):
    raise ValueError("%s is not JSON" % name)


def parse_line(line):
    if len(line) > LONGEST_LINE:
        raise ValueError("it is longer than an event may be")
    event = json.loads(line.decode("utf-8"), parse_constant=no_constant)
    if not isinstance(event, dict):
        raise ValueError("it is no JSON object")
    return event


def get(event, *names):
    for name in names:
        event = event.get(name) if isinstance(event, dict) else None
    return event


def whole(value):
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


class Verifier:
    def __init__(self, directory, keys=(), anchors=None, recordings=None, partial=False):
        self.partial = partial
        self.dir, self.given, self.anchor_dir, self.recording_dir = directory, list(keys), anchors, recordings
        self.findings, self.remarks = [], []
        self.tree = Tree()
        self.history = History(self)

    def wrong(self, where, what, index=None):
        self.findings.append((float("inf") if index is None else index, where, what))

    def remark(self, where, what):
        self.remarks.append("%s: %s" % (where, what))

    def read(self, name):
        """The content of a file of the log, None where there is none."""
        try:
            with open(os.path.join(self.dir, name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def run(self):
        """Fills findings and remarks; raises Undecided."""
        try:
            self.find_keys()
            anchors = self.read_anchors()
            newest = self.read_checkpoints()
            self.hashes = self.read("hashes.bin")
            self.read_segments()
            self.compare(newest, anchors)
            if self.recording_dir:
                self.check_recordings()
        except OSError as err:
            raise Undecided(str(err)) from err
        finally:
            self.findings.sort(key=lambda finding: finding[0])

    # Keys and checkpoints.

    def find_keys(self):
        try:
            beside, error = parse_keys((self.read("audit.vkey") or b"").decode()), None
        except ValueError as err:
            beside, error = [], err
        trusted = self.given
        if not trusted:
            if error:
                raise Undecided("no key to verify with: %s" % error)
            trusted = beside
            self.remark("audit.vkey", "the key was taken from the log's own directory: whoever could rewrite the log could replace it")
        if not trusted:
            raise Undecided("no key to verify with")
        self.trusted, self.known = set(trusted), set(trusted) | set(beside)

    def read_anchors(self):
        if not self.anchor_dir:
            return []
        anchors = []
        for folder, _, names in os.walk(self.anchor_dir, onerror=raise_error):
            for name in sorted(names):
                path = os.path.join(folder, name)
                where = os.path.relpath(path, self.anchor_dir)
                with open(path, "rb") as file:
                    data = file.read()
                try:
                    anchors.append((where, open_checkpoint(data, self.known)))
                except ValueError as err:
                    self.wrong(where, "it is no checkpoint signed with the key of this log: %s" % err)
        if not anchors and not self.findings:
            raise Undecided("%s holds no anchors" % self.anchor_dir)
        return anchors

    def read_checkpoints(self):
        """Reads checkpoints.log and checkpoint; returns the newest of them."""
        beside_text, log = self.read("checkpoint"), self.read("checkpoints.log")
        if beside_text is None and log is None:
            raise Undecided("%s has no checkpoint: nothing in it is signed" % self.dir)
        beside = None
        if beside_text is not None:
            try:
                beside = open_checkpoint(beside_text, self.known)
            except ValueError as err:
                self.wrong("checkpoint", str(err))
        self.signed = self.parse_log(log or b"", beside.origin if beside else None)
        texts = [c.text for c in self.signed]
        if log is None:
            if beside and beside.size:
                self.wrong("checkpoints.log", "it is missing")
        elif beside_text is None:
            if len(texts) > 1:
                self.wrong("checkpoint", "it is missing")
        elif beside_text in texts[-2:-1]:
            self.remark("checkpoint", "it is the last but one of checkpoints.log")
        elif beside_text not in texts[-1:]:
            self.wrong("checkpoint", "it is not the last of checkpoints.log")
        if beside:
            self.signed.append(beside)
        if not self.signed and not self.findings:
            raise Undecided("%s has no checkpoint: nothing in it is signed" % self.dir)
        return max(self.signed, key=lambda c: c.size, default=Checkpoint(None, 0, None, [], b""))

    def parse_log(self, data, origin):
        """The checkpoints of checkpoints.log, each ended by an empty line."""
        signed, self.entries = [], []
        number, lines, empty = 1, [], 0
        for at, line in enumerate(split_lines(data), 1):
            lines.append(line)
            empty += line == b"\n"
            if empty < 2:
                continue
            where = "checkpoints.log:%d" % number
            entry, number, lines, empty = b"".join(lines[:-1]), at + 1, [], 0
            try:
                checkpoint = open_checkpoint(entry, self.known)
            except ValueError as err:
                self.wrong(where, str(err))
                continue
            origin = origin or checkpoint.origin
            if checkpoint.origin != origin:
                self.wrong(where, "it is of another log, %s" % checkpoint.origin)
                continue
            if signed and checkpoint.size < signed[-1].size:
                self.wrong(where, "it is of %d events and stands behind one of %d" % (checkpoint.size, signed[-1].size))
                continue
            signed.append(checkpoint)
            self.entries.append((where, checkpoint))
        if lines:
            self.remark("checkpoints.log", "its end is the beginning of a checkpoint")
        return signed

    def check_keys(self):
        """A key that a log.key event names counts once a checkpoint that covers
        the event is signed by one that counts already."""
        unvouched = None
        for where, checkpoint in self.entries:
            if self.trusted.intersection(checkpoint.signers):
                self.trusted.update(key for index, key in self.history.keys if index < checkpoint.size)
                unvouched = None
            else:
                unvouched = unvouched or where
        if unvouched:
            self.wrong(unvouched, "from here on a key signs that the key to verify with did not vouch for")

    # Lines and the tree.

    def read_segments(self):
        names = sorted(name for name in os.listdir(self.dir) if re.fullmatch(r"audit-[0-9]{20}\.jsonl", name))
        firsts = [int(name[6:26]) for name in names]
        self.end, self.first = 0, firsts[0] if firsts else 0
        self.stored = whole_hashes(self.hashes or b"")
        self.taken = 0  # hashes of hashes.bin that were compared
        if not self.fill(self.first):
            return
        for i, name in enumerate(names):
            stop = firsts[i + 1] if i + 1 < len(names) else None
            next_code = self.first_code(names[i + 1]) if stop is not None else None
            if not self.read_segment(name, stop, next_code):
                return
        self.end = self.tree.size()
        if self.partial:
            self.fill_rest()

    def first_code(self, name):
        try:
            return get(parse_line((self.read(name) or b"").split(b"\n")[0]), "metadata", "event_code")
        except ValueError:
            return None

    def read_segment(self, name, stop, next_code):
        data = self.read(name)
        *lines, torn = data.split(b"\n")
        for number, line in enumerate(lines, 1):
            index, where = self.tree.size(), "%s:%d" % (name, number)
            if index == stop:
                return self.left_over(where, next_code)
            try:
                event = parse_line(line)
            except (ValueError, RecursionError) as err:
                self.wrong(where, "the line is no event: %s" % err, index)
                return False
            sequence = get(event, "metadata", "sequence")
            if whole(sequence) != index:
                self.wrong(where, "the line is event %r, and event %d belongs there" % (sequence, index), index)
                return False
            self.history.see(event, index, where)
            self.add(leaf_hash(line), where)
        if torn and stop is None:
            self.remark(name, "its last %d bytes are an unfinished line" % len(torn))
        elif torn and self.tree.size() == stop:
            return self.left_over(name, next_code)
        if stop is not None and self.tree.size() < stop:
            self.wrong(name, "it ends before event %d, and the next segment begins with event %d" % (self.tree.size(), stop), self.tree.size())
            return False
        return True

    def left_over(self, where, next_code):
        if next_code == "log.failure":
            self.remark(where, "what follows is of a failed write, and was never acknowledged")
            return True
        self.wrong(where, "more follows behind the event with which the segment ends")
        return True

    def add(self, leaf, where):
        index = self.tree.size()
        for ours in self.tree.append(leaf):
            if self.taken < self.stored:
                theirs = self.hashes[self.taken * HASH:(self.taken + 1) * HASH]
                self.taken += 1
                if theirs != ours:
                    self.wrong(where, "event %d: its line and hashes.bin differ: one of them was changed" % index, index)

    def fill(self, size):
        """Takes leaves from hashes.bin for events whose lines are gone."""
        while self.tree.size() < size:
            if not self.next_hash():
                if self.partial:
                    raise Undecided("hashes.bin has no hash of event %d, which is not here" % self.tree.size())
                self.wrong("hashes.bin", "the hashes of events that are gone are missing")
                return False
            self.add(self.next_hash(), "hashes.bin")
        return True

    def fill_rest(self):
        """Takes leaves from hashes.bin for events behind those that are here."""
        while self.next_hash():
            self.add(self.next_hash(), "hashes.bin")
        if self.tree.size() > self.end:
            self.remark("hashes.bin", "it stands for %d events behind those that are here" % (self.tree.size() - self.end))

    def next_hash(self):
        """The next hash that was not compared; None at the end."""
        if self.taken < self.stored:
            return self.hashes[self.taken * HASH:(self.taken + 1) * HASH]
        return None

    def compare(self, newest, anchors):
        size, covered = self.tree.size(), newest.size
        if self.first > self.history.deleted and not self.partial:
            self.wrong("", "the segments before event %d are gone, and no log.delete says that they were removed" % self.first, 0)
        if covered > size:
            self.wrong("", "the log ends before event %d, and %d events were signed" % (size, covered), size)
        elif self.stored > self.taken:
            self.wrong("hashes.bin", "it has hashes of events behind %d, where the log ends" % size, size)
        elif size > covered and self.history.span(size - covered) > UNSIGNED:
            self.wrong("", "the last %d events are not signed: checkpoints were removed, or could not be made" % (size - covered), covered)
        elif size > covered:
            self.remark("", "the last %d events are not signed yet" % (size - covered))
        self.check_roots()
        self.check_keys()
        for where, anchor in anchors:
            if anchor.size > size or self.tree.root(anchor.size) != anchor.root:
                self.wrong(where, "the log does not give this anchor of %d events" % anchor.size, min(anchor.size, size))
        if self.hashes is None and covered:
            self.wrong("hashes.bin", "it is missing")
        elif self.taken == self.stored and self.stored < hash_count(min(covered, size)):
            self.wrong("hashes.bin", "it has %d hashes, and %d events are signed" % (self.stored, covered))
        elif self.hashes and len(self.hashes) % HASH:
            self.remark("hashes.bin", "its last bytes are no whole hash")

    def check_roots(self):
        good = 0
        for checkpoint in sorted(self.signed, key=lambda c: c.size):
            if checkpoint.size > self.tree.size():
                return
            if self.tree.root(checkpoint.size) != checkpoint.root:
                self.wrong("checkpoints", "the events up to %d don't give the root that was signed, those up to %d do" % (checkpoint.size, good), good)
                return
            good = checkpoint.size

    # Recordings.

    def check_recordings(self):
        os.listdir(self.recording_dir)
        for path, chunks in self.history.recordings.items():
            name = "/".join(path.split("/")[-4:])
            full = os.path.join(self.recording_dir, *name.split("/"))
            if ".." in name.split("/") or os.path.islink(full) or not os.path.isfile(full):
                self.wrong(name, "the recording is missing")
                continue
            with open(full, "rb") as file:
                self.check_recording(name, file, chunks)

    def check_recording(self, name, file, chunks):
        digest, at, ended = hashlib.sha256(), 0, False
        for index, code, size, want in chunks:
            ended = code != "recording.chunk"
            if size < at:
                self.wrong(name, "event %d says that it got shorter" % index, index)
                return
            data = file.read(size - at)
            digest.update(data)
            if at + len(data) < size:
                self.wrong(name, "it has %d bytes, and had %d at event %d" % (at + len(data), size, index), index)
                return
            if digest.hexdigest() != want:
                self.wrong(name, "it was changed between bytes %d and %d" % (at, size), index)
                return
            at = size
        if ended and file.read(1):
            self.wrong(name, "it is longer than it was at its end, %d bytes" % at, chunks[-1][0])


def raise_error(err):
    raise err


def split_lines(data):
    """The lines of data with their newlines; only LF ends a line."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def whole_hashes(data):
    """How many hashes there are before the end, or before one that was never
    written: a file with a hole reads as zeros there."""
    hole = data.find(bytes(HASH))
    while hole >= 0 and hole % HASH:
        hole = data.find(bytes(HASH), hole + 1)
    return (len(data) if hole < 0 else hole) // HASH


def hash_count(leaves):
    """How many hashes a tree of so many leaves has in hashes.bin."""
    count = 0
    while leaves:
        count += leaves
        leaves //= 2
    return count


class History:
    """What began has to end, and time has to go on."""

    ENDS = {"ssh.conn.close": "ssh.conn.open", "target.close": "target.open", "proc.end": "proc.start"}

    def __init__(self, verifier):
        self.verifier = verifier
        self.open, self.recordings, self.keys = {}, {}, []
        self.clock, self.back, self.deleted = None, None, 0
        self.logged = array.array("q")  # metadata.logged_time of every event

    def span(self, last):
        """The milliseconds between the first and the last of the last events."""
        times = self.logged[-last:]
        return times[-1] - times[0] if times else 0

    def see(self, event, index, where):
        code = get(event, "metadata", "event_code")
        code = code if isinstance(code, str) else ""
        self.time(event, code, index, where)
        postern = get(event, "unmapped", "postern")
        if code == "daemon.start":
            self.open.clear()
        elif code == "daemon.stop":
            for opened in self.open.values():
                for at, place in opened:
                    self.verifier.wrong(place, "it has no end, and the daemon stopped in order after it", at)
            self.open.clear()
        elif code.startswith("recording."):
            self.recording(event, code, index)
        elif code == "log.key":
            try:
                self.keys.append((index, parse_key(str(get(postern, "new_vkey")))))
            except ValueError:
                pass
        elif code == "log.delete":
            first, records = whole(get(postern, "first_index")), whole(get(postern, "records"))
            if first is not None and records:
                self.deleted = max(self.deleted, first + records)
        else:
            self.pair(event, code, postern, index, where)

    def pair(self, event, code, postern, index, where):
        begin = self.ENDS.get(code, code)
        session = get(event, "metadata", "correlation_uid")
        channel = None if begin == "ssh.conn.open" else json.dumps(get(postern, "channel"))
        key = begin, str(session), channel
        if code in self.ENDS:
            opened = self.open.get(key)
            if opened:
                opened.pop()
        elif code in self.ENDS.values() and get(event, "status_id") != 2:
            self.open.setdefault(key, []).append((index, where))

    def recording(self, event, code, index):
        path = get(event, "file", "path")
        if code not in ("recording.start", "recording.chunk", "recording.end", "recording.failed") or not isinstance(path, str) or not path:
            return
        chunks = self.recordings.setdefault(path, [])
        hashes = get(event, "file", "hashes")
        values = [get(h, "value") for h in hashes] if isinstance(hashes, list) else []
        # One that is found broken off has the hash of what there is, and grows no more.
        if code in ("recording.chunk", "recording.end") or code == "recording.failed" and values and values[-1]:
            chunks.append((index, code, whole(get(event, "file", "size")) or 0, values[-1] if values else ""))

    def time(self, event, code, index, where):
        logged = whole(get(event, "metadata", "logged_time"))
        self.logged.append(min(logged or 0, 1 << 62))
        if logged is None:
            self.verifier.wrong(where, "it has no metadata.logged_time", index)
            return
        if self.back and code == "clock.step":
            self.back = None
        elif self.back and logged - self.back[0] > CLOCK_NOTICE:
            self.verifier.wrong(self.back[2], "time ran back, and no clock.step says so", self.back[1])
            self.back = None
        if code != "clock.step" and self.clock is not None and logged < self.clock - CLOCK_STEP:
            self.back = logged, index, where
        elif code != "clock.step" and (code in ("log.rotate", "log.failure", "log.recovered") or self.clock is not None and logged < self.clock):
            return
        self.clock = logged


def verify(directory, keys=(), anchors=None, recordings=None, partial=False):
    """Returns the exit status and the lines to print."""
    verifier = Verifier(directory, keys, anchors, recordings, partial)
    undecided = None
    try:
        verifier.run()
    except Undecided as err:
        undecided = err
    notes = ["to know: " + remark for remark in verifier.remarks]
    if verifier.findings:
        return 1, ["WRONG: %s%s" % (where + ": " if where else "", what) for _, where, what in verifier.findings] + notes
    if undecided:
        return 2, ["could not be decided: %s" % undecided]
    return 0, ["fine: %d events" % verifier.tree.size()] + notes


def main():
    parser = argparse.ArgumentParser(description="Verifies a Postern audit log.")
    parser.add_argument("dir", metavar="DIR", help="folder of the log")
    parser.add_argument("--key", action="append", default=[], metavar="VKEY|FILE", help="public key, or a file with such")
    parser.add_argument("--anchors", metavar="DIR", help="checkpoints that were stored elsewhere")
    parser.add_argument("--recordings", metavar="DIR", help="folder of the recordings")
    parser.add_argument("--partial", action="store_true", help="DIR holds some segments only, as they came back from an archive")
    args = parser.parse_args()
    keys = []
    try:
        for value in args.key:
            if "+" not in value:
                with open(value, encoding="utf-8") as file:
                    value = file.read()
            keys += parse_keys(value)
    except (OSError, ValueError) as err:
        print("could not be decided: no key: %s" % err)
        return 2
    status, lines = verify(args.dir, keys, args.anchors, args.recordings, args.partial)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
