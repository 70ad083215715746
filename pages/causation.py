"""Does steering an anchor change the answer more than steering another chunk?"""

from app.causation.views import ANSWER, ARMS, PAIRS, TABLE
from app.shared import views

here = views.here_now()
views.title()
views.require(here, *ANSWER.needs)
views.show(ANSWER, here, heading=True)
views.show(PAIRS, here, heading=True)
views.show(TABLE, here, heading=True)
views.show(ARMS, here, heading=True)
