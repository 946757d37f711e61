"""What visitors leave behind: the page's own folder of temporary files, and who sweeps it.

Gradio deletes the files that it hands on, an hour later; what is sent to it under any other name it forgets.
Knows nothing of gradio but the variable that names its folder, which must be set before it is imported.
"""

import os
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

AGE = 2 * 3600  # seconds that a file may stay: gradio's own hour has passed
if within := os.environ.get("GRADIO_TEMP_DIR"):
    Path(within).mkdir(parents=True, exist_ok=True)
# gone with this process
FOLDER = tempfile.TemporaryDirectory(prefix="monju-", dir=within or None, ignore_cleanup_errors=True)
os.environ["GRADIO_TEMP_DIR"] = FOLDER.name


def sweep(folder=FOLDER.name, age=AGE):
    """Remove files, and folders that are empty, which have lain in `folder` for `age` seconds."""
    now = time.time()
    for place, _, names in os.walk(folder, topdown=False):
        for path in [*(os.path.join(place, name) for name in names), *[place] * (place != str(folder))]:
            with suppress(OSError):  # gone meanwhile, or a folder that is not empty
                if now - os.lstat(path).st_ctime > age:
                    os.rmdir(path) if path == place else os.remove(path)


def keep_swept():
    """Sweep every quarter of an hour, as long as this process lives."""
    def again():
        while True:
            time.sleep(AGE / 8)
            sweep()

    threading.Thread(target=again, name="sweeper", daemon=True).start()
