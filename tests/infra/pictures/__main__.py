"""Draw the dashboards anew: `python -m tests.infra.pictures`. Inspect the pictures before you save them."""

import tests.infra.conftest  # noqa: F401  # which Node to use
from tests.infra.pictures.pages import FOLDER, pictures

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, picture in pictures().items():
        (FOLDER / name).write_text(picture)
