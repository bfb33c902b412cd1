"""Small layers, for what does not depend on what is in one."""

from pathlib import Path

from layers.archive import Archive, pack


def small(place: Path, *, folder: str = "", **modules: str) -> Archive:
    """Return a zip with these modules, by name, for Python to import; `folder` is of their package."""
    content = place / "content"
    modules_in = content / "python" / folder
    modules_in.mkdir(parents=True)
    for name, text in modules.items():
        (modules_in / f"{name}.py").write_text(text)
    return pack(content, place / "layer.zip")
