"""CoOp's pickles of few-shot lists, made as its code makes them, without its packages."""

import io
import pickle


class Datum:
    """Has what Dassl's has: each field behind an underscore."""

    def __init__(self, impath, label, classname):
        self._impath, self._label, self._domain, self._classname = impath, label, 0, classname


def datums(lists, protocol=pickle.HIGHEST_PROTOCOL, module="dassl.data.datasets.base_dataset"):
    """Pickle lists of ``(impath, label, classname)`` as objects of Dassl's class."""
    held = {name: [Datum(*each) for each in some] for name, some in lists.items()}

    class Pickler(pickle._Pickler):
        def save_global(self, found, name=None):
            if found is not Datum:
                return super().save_global(found, name)
            if self.proto >= 4:
                self.save(module)
                self.save("Datum")
                self.write(pickle.STACK_GLOBAL)
            else:
                self.write(pickle.GLOBAL + f"{module}\nDatum\n".encode())
            self.memoize(found)
            return None

    Pickler.dispatch = {**pickle._Pickler.dispatch, type: Pickler.save_global}
    file = io.BytesIO()
    Pickler(file, protocol).dump(held)
    return file.getvalue()
