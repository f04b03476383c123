"""When a `ModelPatcher` calls back."""


class CallbacksMP:
    ON_LOAD = "on_load"
    ON_DETACH = "on_detach"
