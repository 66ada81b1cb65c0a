"""What Ray says of processes that failed, in one line each: without its colours, its guesses and its advice."""

import re

_COLOUR = re.compile(r"\x1b\[\d+m")
_KNOWN = re.compile(r"^The actor died unexpectedly .* Worker exit detail: ")
_GUESSES = re.compile(r"(Some common causes include|Object store memory usage).*")
_NODE = re.compile(r" on the node \(IP: [^)]*\)")
_KILLED = re.compile(r"Selected to kill: \(Task: [^)]*?task name=(\w+)\.[^)]*?actual memory used=([\d.]+GB)")
_LONGEST = 300


def in_one_line(error: Exception) -> str:
    """Why a process is gone. Of those that Ray ended because a machine ran out of memory, what each held."""
    text = " ".join(_COLOUR.sub("", str(error)).split())
    if "its node has died" in text:
        return "its node is gone"
    told = _NODE.sub("", _GUESSES.sub("", _KNOWN.sub("", text))).strip(" .")[:_LONGEST]
    held = ", ".join(f"{actor} {memory}" for actor, memory in _KILLED.findall(text))
    return f"{told}; killed: {held}" if held else told


def last_line(error: Exception) -> str:
    """Of what Ray says, which is the exception in the actor; and what to do where it is about what is missing there."""
    line = _COLOUR.sub("", str(error)).strip().splitlines()[-1]
    advice = "every node needs the same EquiRAN, or its folder as the job's working_dir"
    return f"{line}; {advice}" if line.startswith(("ModuleNotFoundError", "ImportError")) else line
