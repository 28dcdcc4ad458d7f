"""Tests of the scoring server: modules alone, and started servers over HTTP."""
