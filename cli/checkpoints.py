"""`atmviz checkpoints`: which released ones are public, where, and how to use them."""

from dataclasses import asdict

from atmviz.released import AUTHORS_PAGE, RELEASED

from . import options
from .console import print_json, print_rows


def checkpoints(as_json: options.JsonOption = False) -> None:
    """Say which released checkpoints are public, where they are, and how to use them.

    Nothing is downloaded.
    """
    if as_json:
        print_json({"page": AUTHORS_PAGE, "checkpoints": [asdict(each) for each in RELEASED]})
        return
    rows = [(each.model, each.trained_on, each.result, each.where) for each in RELEASED]
    print_rows("Checkpoints of ATMNet", ("model", "trained on", "result", "where"), rows, _HOW_TO, texts=4)


_HOW_TO = f"""\
The authors' page is {AUTHORS_PAGE}
  1. open it, follow the link of the model, and save the file under any name
  2. atmviz inspect FILE.pth                 what the file holds
     atmviz overlay photo.jpg -c FILE.pth    where it looks
     atmviz eval FILE.pth --dataset imagenet --data-dir data
The bundled model is what commands take without a checkpoint: atmviz overlay photo.jpg"""
