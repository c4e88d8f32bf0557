"""The pages of the site that are not in docs/: a hook of MkDocs.

The README is the home page, and every file of the repository that a page links to is a page.
Notebooks are pages with their outputs. Every module has a page, from its docstrings.
"""

import ast
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")
FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"<!-- (?:generated: .+?|end) -->")
APART = ("cli", "assets")
"""Packages without a page: the commands have their own, and the rest is data."""
SHIM = "https://unpkg.com/iframe-worker/shim"
"""What the theme fetches to search without a server; worker.js, ours, does it without a network."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and their places in the navigation."""
    pages = linked_pages(sorted(ROOT.glob("docs/*.md")))
    pages |= {place(name): notebook_page(name) for name in notebooks()}
    modules, sections = api_pages()
    for uri, text in (pages | modules).items():
        files.append(File.generated(config, uri, content=text))
    script = (ROOT / "scripts/site/worker.js").read_text("utf-8")
    files.append(File.generated(config, "assets/worker.js", content=script))
    others = [{Path(origin(uri)).name: uri} for uri in pages if uri.startswith("repository/")]
    config.nav += [
        {"Tutorials": [place(name) for name in notebooks()]},
        {"API": ["api/index.md", *sections]},
        {"Project": others},
    ]
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links between files lead from page to page, and drop the marks of what is generated."""
    here = page.file.src_uri
    if here.startswith("api/"):
        return markdown
    return MARK.sub("", relinked(markdown, origin(here), here))


def on_page_content(html: str, **_: Any) -> str:
    """Show a bar within a cell's code as a code host does, without the stroke that protects it."""
    return re.sub(r"<td>.*?</td>", lambda cell: cell[0].replace("\\|", "|"), html, flags=re.DOTALL)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Let the search within a folder work without a network."""
    up = posixpath.relpath("assets/worker.js", posixpath.dirname(page.file.dest_uri) or ".")
    return output.replace(SHIM, up)


def on_post_template(output_content: str, **_: Any) -> str:
    """Do the same for the pages that are no pages, as that of what is not found."""
    return output_content.replace(SHIM, "assets/worker.js")


def place(path: str) -> str:
    """Where a file of the repository is in the site.

    Example:
        >>> place("docs/data.md"), place("README.md"), place("configs/quickstart.py")
        ('data.md', 'index.md', 'repository/configs/quickstart.py.md')
    """
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/").replace(".ipynb", ".md")
    return f"repository/{path}" + ("" if path.endswith(".md") else ".md")


def origin(uri: str) -> str:
    """Return the file of the repository that is at a place in the site."""
    named = uri.removeprefix("repository/")
    candidates = (named, named.removesuffix(".md")) if named != uri else ()
    inside = (f"docs/{uri}", f"docs/{uri.removesuffix('.md')}.ipynb")
    found = (path for path in (*candidates, *inside) if (ROOT / path).is_file())
    return "README.md" if uri == "index.md" else next(found)


def targets(text: str, path: str) -> list[str]:
    """Return the files of the repository that a text links to."""
    prose = "".join(FENCED.split(text)[::2])
    return [
        posixpath.normpath(posixpath.join(posixpath.dirname(path), to))
        for to in LINK.findall(prose)
    ]


def relinked(text: str, path: str, uri: str) -> str:
    """Return the text of a file with its links as they are between pages."""

    def link(found: re.Match[str]) -> str:
        (to,) = targets(f"]({found[0]})", path)
        return posixpath.relpath(place(to), posixpath.dirname(uri) or ".")

    parts = FENCED.split(text)
    parts[::2] = [LINK.sub(link, prose) for prose in parts[::2]]
    return "".join(parts)


def linked_pages(docs: list[Path]) -> dict[str, str]:
    """Return the home page and all that it and the pages of docs/ lead to, outside docs/."""
    queue = ["README.md", *(path.relative_to(ROOT).as_posix() for path in docs)]
    pages: dict[str, str] = {}
    for path in queue:
        text = (ROOT / path).read_text("utf-8")
        if not path.endswith(".md"):
            text = f"# {path}\n\n```{Path(path).suffix[1:] or 'text'}\n{text}\n```\n"
        if not path.startswith("docs/"):
            pages[place(path)] = text
        followed = targets(text, path) if path.endswith(".md") else []
        queue += [to for to in followed if not to.startswith("docs/") and to not in queue]
    return pages


def notebooks() -> list[str]:
    """Return the tutorials, in the order of their names."""
    return [
        file.relative_to(ROOT).as_posix() for file in sorted(ROOT.glob("docs/tutorials/*.ipynb"))
    ]


def notebook_page(path: str) -> str:
    """Return a notebook as Markdown: its text, its code and what that printed and drew."""
    notebook = json.loads((ROOT / path).read_text("utf-8"))
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [shown(output) for output in cell.get("outputs", [])]
    return "\n\n".join([*parts, f"[This page as a notebook]({Path(path).name})"])


def shown(output: dict[str, Any]) -> str:
    """Return one output of a cell as Markdown."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![output](data:image/png;base64,{''.join(data['image/png']).strip()})"
    text = "".join(output.get("text") or data["text/plain"])
    return f"```text\n{text.rstrip()}\n```"


def api_pages() -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return a page for every module, an index of them, and their sections of the navigation."""
    pages, sections, index = {}, [], ["# API reference", ""]
    index += ["`import fsclip_jax` offers", ""]
    index += [
        f"- {api_link(name, f'fsclip_jax.{target}')}" for name, target in offers().items()
    ] + [""]
    for package, modules in api_modules().items():
        index += [f"## {package}", "", "|module||", "|---|---|"]
        for module, about in modules.items():
            pages[f"api/{module}.md"] = f"# {module}\n\n::: {module}\n"
            index.append(f"|[{module.removeprefix(f'{package}.')}]({module}.md)|{about}|")
        names = [{name.rpartition(".")[2]: f"api/{name}.md"} for name in modules]
        sections.append({package.removeprefix("fsclip_jax."): names})
        index.append("")
    return pages | {"api/index.md": "\n".join(index)}, sections


def offers() -> dict[str, str]:
    """Return what `fsclip_jax` itself offers, and where within it that is: its table of places."""
    tree = ast.parse((ROOT / "fsclip_jax" / "__init__.py").read_text("utf-8"))
    values = (node.value for node in tree.body if isinstance(node, ast.Assign))
    return next(ast.literal_eval(value) for value in values if isinstance(value, ast.Dict))


def api_link(name: str, target: str) -> str:
    """Return a link from the first page of the reference to what a module has."""
    return f"[{name}]({target.rpartition('.')[0]}.md#{target})"


def api_modules() -> dict[str, dict[str, str]]:
    """Return the modules of every package, and the first line that each says of itself."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted((ROOT / "fsclip_jax").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        said = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
        if parts[1] not in APART and not parts[-1].startswith("__"):
            package = ".".join(parts[:-1])
            about = said.partition("\n")[0].replace("|", "\\|")
            found.setdefault(package, {})[".".join(parts)] = about
    return found
