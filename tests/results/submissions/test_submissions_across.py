"""What is said of a submission's trials taken together."""

import pytest

from results.submissions.across import Together


@pytest.mark.parametrize(("number", "said"), [(1, "1 trial was made"), (2, "2 trials were made")])
def test_trials_of_changed_code_are_counted(number, said):
    (remark,) = Together(changed_code=number).remarks()
    assert remark == f"{said} with changes to the code that no revision holds"
