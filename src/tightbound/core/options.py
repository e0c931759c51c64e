"""Types of the options of components: their ranges, beside which a description stands.

An option is declared once, at the constructor's argument:

    components: Annotated[Count, Field(description="number of components")] = 10

Validation, `tightbound show` and the documentation read that.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

#: A whole number, 1 or more.
Count = Annotated[int, Field(ge=1)]
#: A number, 0 or more.
Weight = Annotated[float, Field(ge=0)]
#: A number above 0.
Positive = Annotated[float, Field(gt=0)]
#: A number from 0 to 1.
Share = Annotated[float, Field(ge=0, le=1)]
