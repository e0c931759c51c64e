"""Hamiltonian posteriors: leapfrog steps along the gradient of log p(x, z).

Each map changes the volume by a known factor.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.distributions.base import NoiseForm, ReparameterisedDistribution
from tightbound.distributions.normal import HALF_LOG_TAU
from tightbound.distributions.reparam import from_noise, noise_form

# bound on the change of a momentum by one kick, per dimension
STRONGEST = 2.0
# initial distance of the two copies of a Riemannian state; errors of the steps dominate a small one
APART = 0.5

Moved = tuple[Tensor, Tensor]


def standard(x: Tensor) -> Tensor:
    """log N(x; 0, I), summed over the last dimension."""
    return -0.5 * x.square().sum(-1) - x.shape[-1] * HALF_LOG_TAU


def bounded(push: Tensor) -> Tensor:
    """Momentum change (n, d) with a soft bound on its length.

    It depends on the position alone, so that it keeps the volume of the phase space.
    """
    return push * torch.rsqrt(1 + push.square().mean(-1, keepdim=True) / STRONGEST**2)


def scaled(r: Tensor, by: Tensor) -> Tensor:
    """Momenta (n, copies, d) with their mean scaled by `by`, their differences kept.

    The volume of each dimension changes by the factor `by`.
    """
    return r + (by - 1) * r.mean(1, keepdim=True)


class Euclidean:
    """Euclidean phase space: a momentum r ~ N(0, I).

    States are (n, copies, d), here with one copy; `noise` counts the (n, d) blocks of noise.
    """

    noise = 1

    def start(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Initial positions and momenta at z (n, d), and log-density of the draws (n,)."""
        return z.unsqueeze(1), noise.unsqueeze(1), standard(noise)

    def drift(self, z: Tensor, r: Tensor, step: Tensor) -> Moved:
        """Positions and momenta after a free motion of duration `step`, (n, d) or (d,)."""
        return z + step.unsqueeze(-2) * r, r

    def log_prob(self, z: Tensor, r: Tensor) -> Tensor:
        """Log-density of the momenta given z, (n,)."""
        return standard(r.mean(1))


class Riemannian:
    """Riemannian phase space: a momentum r ~ N(0, G(z)).

        G^-1(z) = 1/m sum_i exp(-|z - c_i|^2 / reach^2) L_i L_i' + least I

    With a G that depends on z no leapfrog step is explicit, and a few fixed-point iterations of
    an implicit one do not keep the volume. So there are two copies of the state, at a distance
    `APART`, whose mean is the state: the z of one and the r of the other move the others by a
    shear.

    Args:
        centres: c, (m, d).
        factors: L, (m, d, d).
        reach: Range of a centre.
        least: Inverse metric far from all centres.

    Chadebec, Mantoux and Allassonniere 2020 (arXiv:2010.11518), section 3; Tao 2016
    (arXiv:1609.02212), eq. 2.
    """

    noise = 3

    def __init__(
        self, centres: Tensor, factors: Tensor, reach: float, least: float
    ) -> None:
        self.centres = centres
        self.square = reach**2
        self.least = least
        self.products = (factors @ factors.mT).flatten(1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """G^-1(z) (n, d, d), its lower Cholesky factor, and the weights (n, m)."""
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
        signs = torch.tensor([-1.0, 1.0], dtype=z.dtype, device=z.device)
        offset = APART / 2 * signs.unsqueeze(-1)
        positions = z.unsqueeze(1) + offset * a.unsqueeze(1)
        momenta = r.unsqueeze(1) + offset * b.unsqueeze(1)
        return positions, momenta, density

    def _flow(self, z: Tensor, r: Tensor, step: Tensor) -> Moved:
        """step * dT/dr and -step * dT/dz of T = -log N(r; 0, G(z)), the second bounded."""
        inverse, root, share = self.inverse(z)
        apart = r.unsqueeze(-1) * r.unsqueeze(-2) - torch.cholesky_inverse(root)
        pull = (
            share * (apart.flatten(1) @ self.products.T) / self.square
        )  # minus (dT / d share) share 2 / reach^2
        push = pull.sum(-1, keepdim=True) * z - pull @ self.centres
        return step * (inverse @ r.unsqueeze(-1)).squeeze(-1), bounded(step * push)

    def drift(self, z: Tensor, r: Tensor, step: Tensor) -> Moved:
        z0, z1 = z.unbind(1)
        r0, r1 = r.unbind(1)
        # (rotate, whether z0 and r1 move the others)
        plan = ((False, True), (False, False), (True, False), (False, True))
        for rotate, first in plan:
            if (
                rotate
            ):  # a quarter turn of the difference of the copies keeps them close
                dz = (z1 - z0 - r1 + r0) / 2
                dr = (r1 - r0 + z1 - z0) / 2
                z0 = z0 + dz
                z1 = z1 - dz
                r0 = r0 + dr
                r1 = r1 - dr
            if first:
                dz, dr = self._flow(z0, r1, step / 2)
                z1 = z1 + dz
                r0 = r0 + dr
            else:
                dz, dr = self._flow(z1, r0, step / 2)
                z0 = z0 + dz
                r1 = r1 + dr
        return torch.stack([z0, z1], 1), torch.stack([r0, r1], 1)

    def log_prob(self, z: Tensor, r: Tensor) -> Tensor:
        root = self.inverse(z.mean(1))[1]
        white = (root.mT @ r.mean(1).unsqueeze(-1)).squeeze(-1)
        copies = torch.cat([z[:, 1] - z[:, 0], r[:, 1] - r[:, 0]], -1) / APART
        return standard(white) + _log_det(root) + standard(copies)


def _log_det(root: Tensor) -> Tensor:
    return root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


class Hamiltonian(ReparameterisedDistribution):
    """Hamiltonian variational posterior: tempered leapfrog steps from z0 ~ base.

    log_q = log base(z0) + log N(r0) - log N(r) is that of z and the momentum r together:
    p(x, z) / exp(log_q) has the mean p(x) over the noise, since leapfrog steps keep the volume and
    the volume that tempering removes is that by which the initial momentum was larger. There is no
    density of z alone.

    Args:
        base: q(z0|x).
        log_joint: z (n, d) to log p(x, z), (n,).
        motion: Phase space.
        step: Length of a step, (n, d) or (d,).
        cool: Square root of the initial inverse temperature beta_0, in (0, 1); quadratic tempering.
        steps: Number of leapfrog steps.

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
        self.base = base
        self.log_joint = log_joint
        self.motion = motion
        self.step = step
        self.cool = cool
        self.steps = steps
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        form = noise_form(self.base)
        return form._replace(event=((1 + self.motion.noise) * form.event[0],))

    def from_noise(self, noise: Tensor) -> Moved:
        d = self.event_shape[0]
        start, log_base = from_noise(self.base, noise[:, :d])
        z, r, log_q = self.motion.start(start, noise[:, d:])
        if log_base is None:
            log_base = self.base.log_prob(start)
        log_q = log_q + log_base
        z, r = self.moved(z, scaled(r, 1 / self.cool))
        return z.mean(1), log_q - self.motion.log_prob(z, r)

    def moved(self, z: Tensor, r: Tensor) -> Moved:
        """State and momentum (n, copies, d) after all steps.

        The volume of each dimension changes by the factor `cool`.
        """
        hot = self._level(0)
        kick = self._kick(z)
        for k in range(1, self.steps + 1):
            z, r = self.motion.drift(z, r + kick, self.step)
            kick = self._kick(z)
            cooler = self._level(k)
            r = scaled(r + kick, hot / cooler)
            hot = cooler
        return z, r

    def _level(self, k: int) -> Tensor:
        """Square root of beta_k, from `cool` at k = 0 to 1 at the last step."""
        return 1 / ((1 - 1 / self.cool) * (k / self.steps) ** 2 + 1 / self.cool)

    def _kick(self, z: Tensor) -> Tensor:
        """Momentum change of half a step, (n, 1, d); also where gradients are off."""
        training = torch.is_grad_enabled()
        at = z.mean(1)
        with torch.enable_grad():
            if not at.requires_grad:
                at = at.detach().requires_grad_()
            (force,) = torch.autograd.grad(
                self.log_joint(at).sum(), at, create_graph=training
            )
        return bounded(0.5 * self.step * force).unsqueeze(1)

    def log_prob(self, value: Tensor) -> Tensor:
        raise ValueError(
            "this q has no inverse: its density is known together with a momentum, at values "
            "that it made itself"
        )

    @property
    def point(self) -> Tensor:
        """End of the path from the centre of the base without a momentum; not the mean."""
        form = self.noise_form
        zero = torch.zeros(form.rows, *form.event, dtype=form.dtype, device=form.device)
        return self.from_noise(zero)[0]
