"""`python -m fuzz.again TARGET BASE64`: one input once more."""

import base64
import sys

from fuzz.targets import TARGETS

if __name__ == "__main__":
    TARGETS[sys.argv[1]](base64.b64decode(sys.argv[2]))
