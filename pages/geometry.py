"""How a model's directions lie: spread out, clustered, in parallelograms, on curves."""

from app.geometry.views import PART, PARTS
from app.shared import views

here = views.here_now()
views.title()
part = views.part(PART, "Part", {name: words for name, (words, _) in PARTS.items()})
views.show_all(here, *PARTS[part][1])
