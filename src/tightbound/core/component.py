"""Base classes of the components of a VAE, with every capability that they may declare.

A component of the package, or one from outside, is a subclass of one of them. A class attribute
says what must be known before a component is made (which components fit each other); a method
that does nothing by default is a place where a component may act.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Context, Draw, Examples

if TYPE_CHECKING:
    from tightbound.core.trace import Trace

Space = Literal["real", "sphere", "hyperbolic", "codes"]
Loss = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class EncodedData:
    """Draws of q(z|x) at training examples, to which a prior is fitted.

    Args:
        z: One draw for each of n training examples, (n, d).
        moments: Computes mean and scale of q(z|x) of the same examples, (n, d) each.
        seed: Seed of randomness in fitting.

    Example:
        >>> import torch, tightbound as tb
        >>> z = torch.randn(50, 2)
        >>> data = tb.EncodedData(z, lambda: (z, torch.ones_like(z)), seed=0)
        >>> data.z.shape
        torch.Size([50, 2])
    """

    z: Tensor
    moments: Callable[[], tuple[Tensor, Tensor]]
    seed: int


class StatisticsKeeper(Protocol):
    """Running statistics of training: sums of a pass, and their use after the step.

    Example:
        >>> import tightbound as tb
        >>> model, data = tb.build("vq-vae", "digits", latent=8, seed=0)
        >>> [type(part).__name__ for part in model.statistics_keepers()]
        ['VectorTables']
    """

    def buffers(self) -> Iterator[Tensor]:
        """The tensors that `after_step` changes.

        Returns:
            An iterator over buffers of the module.
        """

    def statistics(self, trace: Trace) -> dict[str, Tensor]:
        """Sums over the batch.

        Args:
            trace: The pass of the step.

        Returns:
            Sums by name; they are added over processes before `after_step`.
        """

    def after_step(self, sums: dict[str, Tensor]) -> None:
        """Update the statistics.

        Args:
            sums: The sums of the step, over all processes.
        """


class Component:
    """Base class of all components: what `build` passes to the constructor.

    Example:
        >>> from tightbound.components.priors import PRIORS
        >>> PRIORS["vamp"].build_arguments
        ('spec',)
    """

    #: Names of constructor arguments that `build` supplies and that are no options: of a prior
    #: "spec", "above" (width of the condition) and "network"; of a posterior "spec" and "places";
    #: of an objective "rows", "labelled", "reach", "critic" and "discriminator".
    build_arguments: ClassVar[tuple[str, ...]] = ()


class ModelPart(nn.Module):
    """Base class of modules inside a VAE that act at fixed points of training.

    `build` calls `attach` once, training calls `prepare` once before the first step, and, where
    `keeps_statistics` is True, `statistics` in every step and `after_step` after it.

    Example:
        >>> import tightbound as tb
        >>> from tightbound.core.component import ModelPart
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> [n for n, m in model.named_modules() if isinstance(m, ModelPart)]
        ['hierarchy.prior', 'hierarchy.posterior', 'likelihood']
    """

    #: Whether training calls `statistics` and `after_step`.
    keeps_statistics: bool = False

    #: Whether buffers hold training examples by their row numbers, which `prepare` sets for
    #: the data of a run that starts from the weights of another one.
    holds_training_rows: bool = False

    def attach(self, model: Any) -> None:
        """Receive the complete model; called once by `build`.

        Args:
            model: The `VAE` that this module is a part of.
        """

    def prepare(self, examples: Examples) -> None:
        """Set a starting point from training examples; called once before the first step.

        Args:
            examples: `examples(n)` returns up to n training examples (n, *shape) in model units,
                spread over the training split, and their row numbers (n,), or None for a stream.
        """

    def statistics(self, trace: Trace) -> dict[str, Tensor]:
        """Sums over the batch that `after_step` needs.

        Args:
            trace: The pass of the step, with B examples and K samples.

        Returns:
            Sums by name; they are added over processes before `after_step`.
        """
        return {}

    def after_step(self, sums: dict[str, Tensor]) -> None:
        """Update buffers (running means, codebooks) after an accepted step.

        Args:
            sums: The sums of the step by name, over all processes.
        """


class ModelAware(ModelPart):
    """Base class of modules that read the model around them, `self.model`.

    Example:
        >>> import tightbound as tb
        >>> class Counter(tb.ModelAware):
        ...     def parameters_of_model(self) -> int:
        ...         return sum(p.numel() for p in self.model.parameters())
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> part = Counter()
        >>> part.attach(model)
        >>> part.parameters_of_model() == sum(p.numel() for p in model.parameters())
        True
    """

    model: Any

    def attach(self, model: Any) -> None:
        """Keep the model without registering it as a submodule.

        Args:
            model: The `VAE` that this module is a part of.
        """
        object.__setattr__(self, "model", model)

    def encoder_inputs(self, examples: Examples, n: int) -> tuple[Tensor, Tensor]:
        """Training examples in units of the encoder, and their row numbers.

        Args:
            examples: As in `prepare`.
            n: Number of examples; fewer are repeated in turn.

        Returns:
            Examples (n, *shape), and row numbers (n,), -2 where they are not known.
        """
        x, rows = examples(n)
        at = torch.arange(n) % len(x)
        device = self.model.get_buffer("centre").device
        x = self.model.inputs(Batch(x[at].to(device)))
        if rows is None:
            return x, torch.full_like(at, -2)
        return x, rows[at]


class Prior(Component, ModelPart):
    """Base class of p(z) of the topmost latent, returned by `forward`.

    A prior is made with `(latent, **options)`, latent being the number of features d.

    Example:
        >>> import torch, tightbound as tb
        >>> class Wide(tb.Prior):
        ...     def __init__(self, latent: int, scale: float = 2.0) -> None:
        ...         super().__init__()
        ...         self.register_buffer("sd", torch.full((latent,), scale))
        ...     def forward(self, ctx, draw, state):
        ...         sd = self.sd.expand(ctx.n, -1)
        ...         normal = torch.distributions.Normal(torch.zeros_like(sd), sd)
        ...         return torch.distributions.Independent(normal, 1)
        >>> Wide(3)(tb.Context(n=5), tb.Draw(source="p"), None).variance[0]
        tensor([4., 4., 4.])
    """

    #: The space that z lies in; posterior and prior must agree.
    latent_space: ClassVar[Space] = "real"
    #: False for a prior that can be sampled and has no log p(z): it bounds nothing.
    has_density: ClassVar[bool] = True
    #: Whether `fit-prior` trains its parameters by gradients of -E_q[log p(z)].
    fits_by_gradient: ClassVar[bool] = False
    #: Whether it reads codes as numbers, so that no gradient of log p(z) reaches z.
    reads_code_indices: ClassVar[bool] = False
    #: Whether p(z) depends on the state above: a condition, or a class.
    depends_on_state: ClassVar[bool] = False
    #: Whether it encodes examples without condition and mask (pseudo-inputs, exemplars).
    encodes_unconditionally: ClassVar[bool] = False
    #: Whether training passes it the row numbers of examples, `Batch.index`.
    needs_row_numbers: ClassVar[bool] = False
    #: Names of posteriors and hierarchies that it goes with; None: all.
    compatible_posteriors: ClassVar[tuple[str, ...] | None] = None
    compatible_hierarchies: ClassVar[tuple[str, ...] | None] = None
    #: Options that a prior fitted after training keeps from the prior before it.
    inherited_options: ClassVar[tuple[str, ...]] = ()
    #: Names of latent sites of its own (a second stage).
    extra_sites: ClassVar[tuple[str, ...]] = ()

    def forward(
        self, ctx: Context, draw: Draw, state: Tensor | None
    ) -> Distribution | None:
        """p(z) of n rows.

        Args:
            ctx: The rows; `ctx.n` is their number.
            draw: The draw of the pass, for priors with sites of their own.
            state: Features of the latents or the condition above, (n, F), or None.

        Returns:
            A distribution with batch shape (n,) and event shape (d,); None where the prior
            has filled the site itself.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define forward(ctx, draw, state)"
        )

    def fit(self, data: EncodedData) -> None:
        """Set the weights, or where gradients start, from draws of q(z|x).

        Args:
            data: One draw for each training example, and the moments of q(z|x).
        """

    def inference_modules(self) -> list[nn.Module]:
        """Modules that belong to q, of a prior with sites of its own.

        Returns:
            The modules; their parameters are in group "inference".
        """
        return []

    @classmethod
    def can_be_fitted(cls) -> bool:
        """Whether `fit-prior` can fit it.

        Returns:
            True where it is fitted by gradients, or by a method `fit` of its own.
        """
        return cls.fits_by_gradient or cls.has_fit()

    @classmethod
    def has_fit(cls) -> bool:
        """Whether it defines a method `fit` of its own.

        Returns:
            True where the class overrides `Prior.fit`.
        """
        return cls.fit is not Prior.fit


class Posterior(Component, ModelPart):
    """Base class of q(z|x): `forward` returns the distribution of n rows.

    A posterior is made with `(features, latent, **options)`: the width F of the encoder's
    features and the number of latent features d.

    Example:
        >>> import torch, tightbound as tb
        >>> class Fixed(tb.Posterior):
        ...     def __init__(self, features: int, latent: int) -> None:
        ...         super().__init__()
        ...         self.mean = torch.nn.Linear(features, latent)
        ...     def forward(self, h, ctx, p):
        ...         normal = torch.distributions.Normal(self.mean(h), 0.5)
        ...         return torch.distributions.Independent(normal, 1)
        >>> h = torch.zeros(4, 8)
        >>> Fixed(8, 2)(h, tb.Context(n=4, h=h), None).stddev[0]
        tensor([0.5000, 0.5000])
    """

    latent_space: ClassVar[Space] = "real"
    #: True for one value per example, as in an autoencoder: there is no KL and no bound.
    is_point_mass: ClassVar[bool] = False
    #: False where log q(z|x) is known only at values that q itself has drawn.
    evaluates_given_z: ClassVar[bool] = True
    #: Whether it handles features at each place of a grid, h (n, *grid, F).
    supports_grids: ClassVar[bool] = False
    #: Whether q follows the gradient of log p(x, z), so that another prior is another q.
    uses_log_joint: ClassVar[bool] = False
    encodes_unconditionally: ClassVar[bool] = False
    #: Names of priors and hierarchies that it goes with; None: all.
    compatible_priors: ClassVar[tuple[str, ...] | None] = None
    compatible_hierarchies: ClassVar[tuple[str, ...] | None] = None

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        """q(z|x) of n rows.

        Args:
            h: Features of the encoder (n, F), or (n, *grid, F).
            ctx: The rows, with condition and log p(x, z).
            p: The prior of the same site, where it is known already.

        Returns:
            A distribution with batch shape (n,) and event shape (d,).
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define forward(h, ctx, p)"
        )


class Likelihood(Component, ModelPart):
    """Base class of p(x|z), made by `forward` from the output of the decoder.

    A likelihood is made with `(spec, **options)`.

    Example:
        >>> import torch, tightbound as tb
        >>> class UnitNormal(tb.Likelihood):
        ...     domains = ("real",)
        ...     params = 1
        ...     def __init__(self, spec: tb.DataSpec) -> None:
        ...         super().__init__()
        ...     def forward(self, y, ctx, p=None):
        ...         normal = torch.distributions.Normal(y.squeeze(1), 1.0)
        ...         return torch.distributions.Independent(normal, y.dim() - 2)
        >>> px = UnitNormal(tb.DataSpec(shape=(3,), domain="real"))(torch.zeros(2, 1, 3), None)
        >>> round(float(px.log_prob(torch.zeros(2, 3))[0]), 4)
        -2.7568
    """

    #: Domains of data on which it is a density or a mass function: see `DataSpec.domain`.
    domains: ClassVar[tuple[str, ...]] = ()
    #: Values that the decoder gives for each dimension of x.
    params: int = 1

    def forward(
        self, y: Tensor, ctx: Context, p: Distribution | None = None
    ) -> Distribution:
        """p(x|z) of n rows.

        Args:
            y: Output of the decoder, (n, params, *shape).
            ctx: The rows.
            p: Not used by likelihoods; None.

        Returns:
            A distribution over x in model units, with batch shape (n,) and event shape *shape.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define forward(y, ctx, p)"
        )


class Objective(Component):
    """Base class of what training minimises: a function of a trace and the clock.

    The value is a scalar in nats per example, or one for each group of parameters,
    `{"inference": ..., "generative": ..., "critic": ...}`.

    Example:
        >>> import torch, tightbound as tb
        >>> class HalfRate(tb.Objective):
        ...     def __call__(self, trace, clock):
        ...         return trace.distortion.mean() + 0.5 * trace.rate.mean()
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> trace = model(data.train.examples(8))
        >>> half = HalfRate()(trace, tb.Clock())
        >>> bool(torch.isclose(half, -trace.elbo.mean() - 0.5 * trace.rate.mean()))
        True
    """

    #: Hierarchies and domains that it is defined for; None: all.
    compatible_hierarchies: ClassVar[tuple[str, ...] | None] = None
    domains: ClassVar[tuple[str, ...] | None] = None
    #: Posteriors that it is defined for; None: all that are no point mass.
    compatible_posteriors: ClassVar[tuple[str, ...] | Literal["all"] | None] = None
    #: Whether it evaluates log q(z|x) again at the z of a pass, as path derivatives do.
    needs_log_q_at_given_z: ClassVar[bool] = False
    #: Whether it learns from labels (`Batch.y`).
    learns_from_labels: ClassVar[bool] = False
    #: Number of bounds that share the k samples of an example, where option m is not set.
    default_bounds: ClassVar[int] = 1
    #: Whether it compares every value of x, so that none may be missing.
    needs_all_values: ClassVar[bool] = False
    #: The figure by which the best weights are chosen: its own value, or the ELBO.
    selection: ClassVar[Literal["loss", "elbo"]] = "loss"

    @property
    def per_example(self) -> bool:
        """Whether the loss is a mean over examples, so that batches may be cut anywhere.

        An objective that takes a statistic of the batch returns False, and calls
        `trace.gather(rows)` on what it takes the statistic of.
        """
        return True

    def __call__(self, trace: Trace, clock: Clock) -> Loss:
        """The loss in nats per example, or one loss for each parameter group."""
        raise NotImplementedError(
            f"{type(self).__name__} must define __call__(trace, clock)"
        )


def width_of(module: nn.Module) -> int:
    """Width of the features that a module of a network gives."""
    width = module.features
    assert isinstance(width, int)
    return width


class Network(Component):
    """Base class of the neural networks of a model: a maker of modules.

    A network is made with `(size, **options)`; size is "s", "m" or "l".

    Example:
        >>> import torch, tightbound as tb
        >>> class Small(tb.Network):
        ...     def __init__(self, size: str) -> None: ...
        ...     def encoder(self, shape):
        ...         return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16))
        ...     def decoder(self, inputs, out):
        ...         return torch.nn.Linear(inputs, 64 * out[0])
        >>> Small("s").encoder((1, 8, 8))(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3, 16])
    """

    #: Whether the encoder reads x scaled from the range of its domain to [-1, 1] instead of
    #: standardised by mean and spread.
    reads_range: bool = False

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        """A module from examples to features.

        Args:
            shape: Shape of one example, channels first.

        Returns:
            A module x (n, *shape) -> h (n, F), any shape of F values a row.
        """
        raise NotImplementedError

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        """A module from latents to the parameters of p(x|z).

        Args:
            inputs: Width of its input.
            out: (params, *shape).

        Returns:
            A module z (n, inputs) -> y with prod(out) values a row.
        """
        raise NotImplementedError

    def link(self, inputs: int) -> nn.Module:
        """A module between the latents of a hierarchy.

        Args:
            inputs: Width of its input.

        Returns:
            A module (n, inputs) -> (n, F).
        """
        raise NotImplementedError

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The grid of places that the encoder keeps.

        Args:
            shape: Shape of one example, channels first.

        Returns:
            The shape of the grid; () for one vector of features.
        """
        return ()


@dataclass(frozen=True)
class Level:
    """The place of one latent in a stack of latents on grids.

    Args:
        grid: Shape of the grid of places of this level.
        below: Shape of the grid of the next finer level.
        depth: Number of latents, which scales the initial weights of deep stacks.
        first: Whether it is the topmost, with no state above.

    Example:
        >>> from tightbound.core.component import Level
        >>> Level((4, 4), below=(8, 8), depth=3).first
        False
    """

    grid: tuple[int, ...]
    below: tuple[int, ...] = ()
    depth: int = 1
    first: bool = False


class MultiscaleNetwork(Component):
    """Base class of networks for latents on grids from coarse to fine, in a top-down hierarchy.

    All features have one width, the attribute `features` of the encoder.

    Example:
        >>> from tightbound.components.networks import NETWORKS
        >>> NETWORKS["pyramid"]("s").scales((1, 28, 28), latents=3)
        (0, 2, 4)
    """

    def scales(self, shape: tuple[int, ...], latents: int) -> tuple[int, ...]:
        """The scale of each latent.

        Args:
            shape: Shape of one example, channels first.
            latents: Number of latents.

        Returns:
            The scale of each latent from the bottom up; 0 is the finest.
        """
        raise NotImplementedError

    def encoder(self, shape: tuple[int, ...], deepest: int) -> nn.Module:
        """A module from examples to features at each scale.

        Args:
            shape: Shape of one example, channels first.
            deepest: The coarsest scale that is needed.

        Returns:
            A module x (n, *shape) -> [h_0, ..., h_deepest], each (n, *grid, F), with the
            attributes `features` = F and `grids`, the grid of each scale.
        """
        raise NotImplementedError

    def reader(self, inputs: int, level: Level) -> nn.Module:
        """A module before the posterior of a level.

        Args:
            inputs: Width of [h, state].
            level: The place of the latent in the stack.

        Returns:
            A module (n, *grid, inputs) -> (n, *grid, F).
        """
        raise NotImplementedError

    def link(self, latent: int, level: Level) -> nn.Module:
        """A module from a level to the state of the next finer one.

        Args:
            latent: Number of features of z.
            level: The place of the latent in the stack.

        Returns:
            A module [state, z] (n, *grid, F + latent) -> state (n, *below, F).
        """
        raise NotImplementedError

    def decoder(self, level: Level, out: tuple[int, ...]) -> nn.Module:
        """A module from the last state to the parameters of p(x|z).

        Args:
            level: The place of the finest latent.
            out: (params, *shape).

        Returns:
            A module state (n, *grid, F) -> y (n, *out).
        """
        raise NotImplementedError


class Hierarchy(nn.Module):
    """Base class of the order in which a model visits its latents.

    `visit` calls `z = draw(name, p=..., q=...)` for each site; `decoder` turns the state that it
    returns into y (n, params, *shape).

    Example:
        >>> import tightbound as tb
        >>> model, data = tb.build("hvae", "digits", latent=[3, 2], seed=0)
        >>> model.hierarchy.sites, model.hierarchy.site_widths
        (('z2', 'z1'), {'z1': 3, 'z2': 2})
    """

    #: Names of the latent sites in the order of p: the topmost first.
    sites: tuple[str, ...]
    #: Number of features of each site, from the bottom up, without sites of the prior.
    site_widths: Mapping[str, int]
    #: Discrete sites that can be enumerated, and their numbers of classes.
    classes: Mapping[str, int]
    #: The topmost prior's place among the submodules: the prefix of its weights.
    prior_prefix: ClassVar[str] = "prior."
    #: Grid of places of the latent; () for a vector.
    grid: tuple[int, ...]
    decoder: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.classes = {}
        self.grid = ()

    def visit(self, draw: Draw, ctx: Context) -> Tensor:
        """Fill every site by calls of `draw`.

        Args:
            draw: Decides where the value of each site comes from.
            ctx: The rows, with the features of the encoder where q is wanted.

        Returns:
            The input of the decoder, (n, F) or (n, *grid, F).
        """
        raise NotImplementedError

    def forward(self, draw: Draw, ctx: Context) -> Tensor:
        """Fill every site and decode.

        Args:
            draw: As in `visit`.
            ctx: As in `visit`.

        Returns:
            y (n, params, *shape).
        """
        y: Tensor = self.decoder(self.visit(draw, ctx))
        return y

    @property
    def top_prior(self) -> Prior:
        """p(z) of the topmost latent, the submodule at `prior_prefix`."""
        prior = self.get_submodule(self.prior_prefix.removesuffix("."))
        assert isinstance(prior, Prior)
        return prior

    def top_posterior(self, h: Tensor, ctx: Context) -> Distribution:
        """q of the topmost latent where it reads the encoder's features alone.

        Args:
            h: Features of the encoder (n, F).
            ctx: The rows.

        Returns:
            A distribution with batch shape (n,).

        Raises:
            NotImplementedError: It reads more than that.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no posterior of features alone"
        )

    def inference_modules(self) -> list[nn.Module]:
        """The modules that belong to q.

        Returns:
            The modules; their parameters are in group "inference".
        """
        raise NotImplementedError
