"""How a few numbers go with the size of the model, its seed or its step of training, one point a study."""

from app.compare_studies.views import BY_AXIS
from app.shared import views

here = views.here_now()
views.title()
views.show(BY_AXIS, here)
