"""Sites and batch systems; what stands in no test module is told in full as well when it fails."""

import pytest

pytest.register_assert_rewrite("tests.clusters.matrix")
