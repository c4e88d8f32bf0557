"""From a template and values to a page that needs nothing but itself."""

from collections.abc import Mapping
from typing import Any

from fsclip_jax.report.metrics import number_parts
from fsclip_jax.report.names import method_title
from fsclip_jax.report.styles import DARK, LIGHT, SERIES_DARK, SERIES_LIGHT, variables
from fsclip_jax.report.tables import split_word


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template of ``report/pages``; a name that it uses and that is not given is an error.

    Every value is escaped but what was marked as markup: the plots, which are drawn here.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fsclip_jax", "report/pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"method": method_title, "split": split_word}
    environment.globals["number_parts"] = number_parts
    colours = {
        "colours": variables(LIGHT, SERIES_LIGHT),
        "dark_colours": variables(DARK, SERIES_DARK),
    }
    return environment.get_template(template).render(colours | dict(values))
