"""Small layers, for what does not depend on what is in one."""

from pathlib import Path

from layers.archive import Archive, pack


def small(folder: Path, **modules: str) -> Archive:
    """Return a zip with these modules, by name, for Python to import."""
    content = folder / "content" / "python"
    content.mkdir(parents=True)
    for name, text in modules.items():
        (content / f"{name}.py").write_text(text)
    return pack(content.parent, folder / "layer.zip")
