"""Projections: the plane is exact, each is kept without loss, and UMAP's places are umap-learn's."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from monju.clustering import projections
from monju.clustering.clusterers import distances
from monju.errors import MonjuError

RANDOM = np.random.default_rng(0)
CENTRES = RANDOM.normal(size=(3, 20))
VECTORS = np.concatenate([centre + RANDOM.normal(size=(50, 20)) for centre in CENTRES])


def test_the_nearest_centre_in_the_plane_is_the_nearest_in_space():
    plane = projections.CentrePlane().fit(VECTORS, CENTRES)
    flat = distances(plane.transform(VECTORS), plane.transform(CENTRES))
    assert (flat.argmin(axis=1) == distances(VECTORS, CENTRES).argmin(axis=1)).all()
    assert len(set(flat.argmin(axis=1))) == 3


def test_distances_come_back_from_the_plane_and_the_height_above_it():
    plane = projections.CentrePlane().fit(VECTORS, CENTRES)
    back = projections.distances_of(plane.transform(VECTORS), plane.off(VECTORS)[:, None], plane.transform(CENTRES))
    assert back == pytest.approx(distances(VECTORS, CENTRES), abs=1e-9)
    assert plane.off(CENTRES) == pytest.approx(0, abs=1e-9)


def test_the_plane_of_a_right_angle_worked_out_by_hand():
    corner = np.array([[0, 0, 5], [4, 0, 5], [0, 2, 5.0]])
    plane = projections.CentrePlane().fit(None, corner)
    flat = plane.transform(corner)
    assert flat[0] == pytest.approx([0, np.hypot(4 / 3, 2 / 3)])  # A straight above the centroid
    assert plane.off(np.array([[1, 1, 8.0]])) == pytest.approx([3])
    meeting, _ = projections.borders(corner[:, :2])
    assert meeting == pytest.approx([2, 1])  # the middle of the side across from the right angle


@pytest.mark.parametrize("seed", range(5))
def test_on_a_border_two_centres_are_equally_near_and_the_third_is_farther(seed):
    centres = np.random.default_rng(seed).normal(size=(3, 2))
    meeting, rays = projections.borders(centres)
    assert np.ptp(distances(meeting[None], centres)) < 1e-9
    for (i, j, other), ray in zip(((0, 1, 2), (1, 2, 0), (2, 0, 1)), rays):
        d = distances((meeting + 3 * ray)[None], centres)[0]
        assert d[i] == pytest.approx(d[j]) and d[other] > d[i]


@pytest.mark.parametrize("centres", [np.zeros((3, 4)), np.outer([1, 2, 4], [1, 0, 2.0]), np.outer([0, -1, 1], [1, 0, 2.0]),
                                     np.eye(4)])
def test_centres_that_span_no_plane_are_refused(centres):
    with pytest.raises(MonjuError, match="choose another projection"):
        projections.CentrePlane().fit(VECTORS, centres)


def test_borders_of_centres_on_one_line_are_refused():
    with pytest.raises(MonjuError, match="one line"):
        projections.borders(np.array([[0, 0], [1, 1], [2, 2.0]]))


@pytest.mark.parametrize("name", projections.TABLE)
def test_what_is_kept_places_new_vectors_as_before(name, tmp_path):
    fitted = projections.TABLE[name](3).fit(VECTORS, CENTRES)
    save_file(fitted.state(), tmp_path / "state.safetensors")
    again = projections.TABLE[name](3).restore(load_file(tmp_path / "state.safetensors"), VECTORS)
    new = VECTORS[:40] + 0.1
    assert np.array_equal(again.transform(new), fitted.transform(new)) and again.transform(new).shape == (40, 2)
    assert fitted.transform(VECTORS[:0]).shape == (0, 2)


def test_pca_takes_the_widest_directions():
    wide = np.array([[-9, 0, 0], [9, 0, 0], [0, 4, 0], [0, -4, 0], [0, 0, 0.1], [0, 0, -0.1]])
    flat = projections.PCA().fit(wide, None).transform(wide)
    assert np.abs(flat[0]) == pytest.approx([9, 0]) and np.abs(flat[2]) == pytest.approx([0, 4])


def test_too_few_sentences_are_refused():
    with pytest.raises(MonjuError, match="too few for UMAP"):
        projections.Umap().fit(VECTORS[:9], CENTRES)
    with pytest.raises(MonjuError, match="bring more"):
        projections.PCA().fit(VECTORS[:1], CENTRES)


def test_umap_strengths_sum_to_log2_of_the_neighbours():
    d = np.sort(RANDOM.uniform(0.5, 2, size=(30, 15)), axis=1)
    assert projections.memberships(d)[:, 1:].sum(axis=1) == pytest.approx(np.log2(15))


def test_a_member_of_umaps_sample_lands_on_its_own_place():
    fitted = projections.Umap().fit(VECTORS, CENTRES)
    assert np.allclose(fitted.transform(VECTORS), fitted.embedding)


def test_umap_places_new_vectors_near_umap_learns_own_answer():
    from umap import UMAP

    sample = np.concatenate([centre + 0.4 * RANDOM.normal(size=(100, 20)) for centre in CENTRES]).astype(np.float32)
    new = np.concatenate([centre + 0.4 * RANDOM.normal(size=(20, 20)) for centre in CENTRES]).astype(np.float32)
    theirs = UMAP(n_neighbors=15, random_state=0).fit(sample)
    ours = projections.Umap(0).restore({"embedding": theirs.embedding_, "rows": np.arange(len(sample))}, sample)
    apart = np.linalg.norm(ours.transform(new) - theirs.transform(new), axis=1)
    across = np.linalg.norm(np.ptp(theirs.embedding_, axis=0))
    assert np.median(apart) < 0.06 * across and apart.max() < 0.12 * across  # umap-learn's last rounds push outwards a little
    blobs = np.stack([theirs.embedding_[100 * i : 100 * i + 100].mean(axis=0) for i in range(3)])
    assert (distances(ours.transform(new), blobs).argmin(axis=1) == np.repeat([0, 1, 2], 20)).all()
