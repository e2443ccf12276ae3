"""What moves arch, by name."""

from dnas.bilevel import arch_adam
from dnas.hw_loss import frank_wolfe
from dnas.relax import exponentiated_gradient

# Each entry makes an optax optimiser of arch with the paper's defaults. A search offers each the
# keywords that it takes: learning_rate; of one with a bound its cost, the bound, a key, and the
# step to start at.
ARCH_OPTIMIZERS = {
    "adam": arch_adam,
    "exponentiated_gradient": exponentiated_gradient,
    "frank_wolfe": frank_wolfe,
}
