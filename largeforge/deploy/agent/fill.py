"""Put secrets into a configuration: `fill.py TEMPLATE SECRETS TARGET [COMMAND …]`, which then becomes the command.

`http://secret.invalid/NAME/` in the template stands for the secret in the file NAME. The target is for this user alone.
"""

from __future__ import annotations

import os
import re
import sys

PLACEHOLDER = re.compile(r"http://secret\.invalid/([\w.-]+)/")


def main(template, secrets, target, command):
    """Write the target, and run the command in this process's place."""
    with open(template, encoding="utf-8") as stream:
        text = filled(stream.read(), secrets)
    aside = "%s.new" % target
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(aside, target)
    if command:
        os.execvp(command[0], command)


def filled(text, secrets):
    """Return a text with its secrets."""

    def secret(match):
        with open(os.path.join(secrets, match.group(1)), encoding="utf-8") as stream:
            value = stream.read().strip()
        if re.search(r"""[\s'"\\]""", value):
            raise ValueError("%s is no URL" % match.group(1))
        return value

    return PLACEHOLDER.sub(secret, text)


if __name__ == "__main__":
    main(*sys.argv[1:4], sys.argv[4:])
