"""Every chunk and chain of thought of the study: what is searched for, sorted by anything that is known of it."""

from app.browse.views import CHOSEN, TABLE
from app.shared import views

here = views.here_now()
views.title()
views.show(TABLE, here)
views.show(CHOSEN, here)
