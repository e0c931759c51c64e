"""q(z|x) as a start that Hamiltonian steps carry towards p(z|x), a momentum beside it; each map has
a known volume.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.distributions.flow import FromNoise
from tightbound.distributions.normal import HALF_LOG_TAU
from tightbound.distributions.reparam import NoiseForm, from_noise, noise_form

# how far a kick moves a momentum, in each dimension, where the force is beyond all bounds
STRONGEST = 2.0
# how far the two copies of a Riemannian state start from one another: a small one sees their steps'
# errors
APART = 0.5

Moved = tuple[Tensor, Tensor]


def standard(x: Tensor) -> Tensor:
    """log N(x; 0, I), summed over the last dimension."""
    return -0.5 * x.square().sum(-1) - x.shape[-1] * HALF_LOG_TAU


def bounded(push: Tensor) -> Tensor:
    """A soft bound on the length of a kick (n, d).

    Whatever the force is a function of, moving by it keeps volume.
    """
    return push * torch.rsqrt(1 + push.square().mean(-1, keepdim=True) / STRONGEST**2)


def scaled(r: Tensor, by: Tensor) -> Tensor:
    """Momenta (n, copies, d) times a number, the distance of the copies kept: each dimension's
    volume by `by`.
    """
    return r + (by - 1) * r.mean(1, keepdim=True)


class Euclidean:
    """A momentum r ~ N(0, I).

    States are (n, copies, d), here of one copy; noise: how many (n, d) of it make them.
    """

    noise = 1

    def start(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z and a momentum at z (n, d), as states, and the log-density of all that was
        drawn, (n,).
        """
        return z.unsqueeze(1), noise.unsqueeze(1), standard(noise)

    def drift(self, z: Tensor, r: Tensor, step: Tensor) -> Moved:
        """Where the momentum leads in the time `step`, (n, d) or (d,), without a force."""
        return z + step.unsqueeze(-2) * r, r

    def log_prob(self, z: Tensor, r: Tensor) -> Tensor:
        """The log-density, given z, of all that is in a state beside z, (n,)."""
        return standard(r.mean(1))


class Riemannian:
    """A momentum r ~ N(0, G(z)), G^-1(z) = 1/m sum_i exp(-|z - c_i|^2 / reach^2) L_i L_i' + least
    I.

    With a G that depends on z no leapfrog is explicit, and one solved by a few fixed-point
    iterations, as is usual, keeps no volume.  So there are two copies of the state, `APART` from
    one another, whose mean counts: the z of one and the r of the other move the rest by a shear.
    centres (m, d), factors L (m, d, d).  Chadebec, Mantoux and Allassonniere 2020
    (arXiv:2010.11518), section 3; Tao 2016 (arXiv:1609.02212), eq. 2.
    """

    noise = 3

    def __init__(
        self, centres: Tensor, factors: Tensor, reach: float, least: float
    ) -> None:
        self.centres, self.square, self.least = centres, reach**2, least
        self.products = (factors @ factors.mT).flatten(1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """G^-1(z) (n, d, d), its lower Cholesky factor, and the share (n, m) of each centre
        in it.
        """
        far = (z.unsqueeze(1) - self.centres).square().sum(-1)
        share = torch.exp(-far / self.square) / len(self.centres)
        eye = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        inverse = (share @ self.products).unflatten(
            -1, (len(eye), -1)
        ) + self.least * eye
        return inverse, torch.linalg.cholesky_ex(inverse)[0], share

    def start(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        e, a, b = noise.chunk(3, -1)
        root = self.inverse(z)[1]
        r = torch.linalg.solve_triangular(root.mT, e.unsqueeze(-1), upper=True).squeeze(
            -1
        )
        density = standard(noise) + _log_det(root)
        either = (
            APART
            / 2
            * torch.tensor([-1.0, 1.0], dtype=z.dtype, device=z.device).unsqueeze(-1)
        )
        return (
            z.unsqueeze(1) + either * a.unsqueeze(1),
            r.unsqueeze(1) + either * b.unsqueeze(1),
            density,
        )

    def _flow(self, z: Tensor, r: Tensor, step: Tensor) -> Moved:
        """step times dT/dr and -dT/dz, T = -log N(r; 0, G(z)), the second bounded as every
        kick is.
        """
        inverse, root, share = self.inverse(z)
        apart = r.unsqueeze(-1) * r.unsqueeze(-2) - torch.cholesky_inverse(root)
        pull = (
            share * (apart.flatten(1) @ self.products.T) / self.square
        )  # minus (dT / d share) share 2 / reach^2
        push = pull.sum(-1, keepdim=True) * z - pull @ self.centres
        return step * (inverse @ r.unsqueeze(-1)).squeeze(-1), bounded(step * push)

    def drift(self, z: Tensor, r: Tensor, step: Tensor) -> Moved:
        (z0, z1), (r0, r1) = z.unbind(1), r.unbind(1)
        for turn, own in ((False, True), (False, False), (True, False), (False, True)):
            if turn:  # a quarter turn of what is between the copies, which else would drift apart
                dz, dr = (z1 - z0 - r1 + r0) / 2, (r1 - r0 + z1 - z0) / 2
                z0, z1, r0, r1 = z0 + dz, z1 - dz, r0 + dr, r1 - dr
            dz, dr = (
                self._flow(z0, r1, step / 2) if own else self._flow(z1, r0, step / 2)
            )
            z0, z1, r0, r1 = (
                (z0, z1 + dz, r0 + dr, r1) if own else (z0 + dz, z1, r0, r1 + dr)
            )
        return torch.stack([z0, z1], 1), torch.stack([r0, r1], 1)

    def log_prob(self, z: Tensor, r: Tensor) -> Tensor:
        root = self.inverse(z.mean(1))[1]
        white = (root.mT @ r.mean(1).unsqueeze(-1)).squeeze(-1)
        copies = torch.cat([z[:, 1] - z[:, 0], r[:, 1] - r[:, 0]], -1) / APART
        return standard(white) + _log_det(root) + standard(copies)


def _log_det(root: Tensor) -> Tensor:
    return root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


class Hamiltonian(FromNoise):
    """z after tempered leapfrog steps from z0 ~ base with a momentum r0, over n rows (n, d).

    log_q = log base(z0) + log N(r0) - log N(r) is of z and r together: p(x, z) / exp(log_q) has the
    mean p(x) over the noise, since leapfrog keeps volume, and what tempering takes from it is what
    its hotter start had more.  There is no density of z alone.  log_joint: z to log p(x, z), (n,).
    step: (n, d) or (d,).  cool: the square root of beta_0, at which r starts; quadratic tempering.
    Caterini, Doucet and Sejdinovic 2018 (arXiv:1805.11328), algorithm 1.
    """

    def __init__(
        self,
        base: Distribution,
        log_joint: Callable[[Tensor], Tensor],
        motion: Euclidean | Riemannian,
        step: Tensor,
        cool: Tensor,
        steps: int,
    ) -> None:
        self.base, self.log_joint, self.motion = base, log_joint, motion
        self.step, self.cool, self.steps = step, cool, steps
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        form = noise_form(self.base)
        return form._replace(event=((1 + self.motion.noise) * form.event[0],))

    def from_noise(self, noise: Tensor) -> Moved:
        d = self.event_shape[0]
        start, log_base = from_noise(self.base, noise[:, :d])
        z, r, log_q = self.motion.start(start, noise[:, d:])
        log_q = log_q + (self.base.log_prob(start) if log_base is None else log_base)
        z, r = self.moved(z, scaled(r, 1 / self.cool))
        return z.mean(1), log_q - self.motion.log_prob(z, r)

    def moved(self, z: Tensor, r: Tensor) -> Moved:
        """All steps on a state and its momentum, (n, copies, d), whose volume shrinks by `cool` in
        each dimension.
        """
        hot, kick = self._level(0), self._kick(z)
        for k in range(1, self.steps + 1):
            z, r = self.motion.drift(z, r + kick, self.step)
            kick, cooler = self._kick(z), self._level(k)
            r, hot = scaled(r + kick, hot / cooler), cooler
        return z, r

    def _level(self, k: int) -> Tensor:
        """The square root of beta_k, from `cool` at k = 0 to 1 at the last step."""
        return 1 / ((1 - 1 / self.cool) * (k / self.steps) ** 2 + 1 / self.cool)

    def _kick(self, z: Tensor) -> Tensor:
        """What the force gives all copies' momenta in half a step, (n, 1, d); also where gradients
        are off.
        """
        training, at = torch.is_grad_enabled(), z.mean(1)
        with torch.enable_grad():
            if not at.requires_grad:
                at = at.detach().requires_grad_()
            (force,) = torch.autograd.grad(
                self.log_joint(at).sum(), at, create_graph=training
            )
        return bounded(0.5 * self.step * force).unsqueeze(1)

    def log_prob(self, value: Tensor) -> Tensor:
        raise ValueError(
            "this q has no inverse: its density is known together with a "
            "momentum, at what it made itself"
        )

    @property
    def point(self) -> Tensor:
        """Where the start's centre is led without a momentum; not the mean."""
        form = self.noise_form
        return self.from_noise(
            torch.zeros(form.rows, *form.event, dtype=form.dtype, device=form.device)
        )[0]
