"""What a notebook defines, without what it does."""

import ast
from types import SimpleNamespace

import nbformat

from lib.grid.tasks import NOTEBOOKS


def defined(notebook):
    """The functions of a notebook, and what it imports, by name."""
    cells = nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    tree = ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    tree.body = [part for part in tree.body if isinstance(part, ast.Import | ast.ImportFrom | ast.FunctionDef)]
    names = {}
    exec(compile(tree, notebook, "exec"), names)
    return SimpleNamespace(**names)
