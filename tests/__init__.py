"""Tests; ``models`` holds every canonical model once, ``lme4_models`` the classical ones."""
