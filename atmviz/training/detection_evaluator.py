"""COCO's average precision of a detector."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atmviz.data.detection import DetectionImages
from atmviz.distributed import gather_all
from atmviz.sources.coco import coco_masks, run_lengths
from atmviz.sources.coco_json import Annotation
from atmviz.statistics.paired import GROUPS, WithoutGroups
from atmviz.training.evaluator import Evaluator, Item, pixels_of, require_classes

_AP_NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


class DetectionEvaluator(Evaluator):
    """Computes COCO's average precision of boxes, and of masks where the network predicts them, by COCO's code.

    Args:
        dataset: Images with annotations.
        with_masks: Whether the network predicts masks.

    Raises:
        AtmvizError: the COCO backend is not installed.
    """

    def __init__(self, dataset: DetectionImages, with_masks: bool) -> None:
        self.dataset = dataset
        self._kinds: dict[Any, str] = {"bbox": "box"} | ({"segm": "mask"} if with_masks else {})
        self._images: list[dict[str, Any]] = []
        self._truth: list[dict[str, Any]] = []
        self._detections: list[dict[str, Any]] = []
        self._per_class: dict[str, np.ndarray] = {}
        coco_masks()

    def predict(self, network: nn.Module, items: Sequence[Item]) -> Sequence[Any]:
        parameter = next(network.parameters())
        return network([item["image"].to(parameter.device, parameter.dtype) for item in items])

    def update(self, network: nn.Module, items: Sequence[Item]) -> Sequence[Any]:
        predicted = self.predict(network, items)
        for item, detections in zip(items, predicted, strict=True):
            labels = detections["labels"]
            if len(labels) and int(labels.max()) >= len(self.dataset.classes):
                require_classes(int(labels.max()) + 1, len(self.dataset.classes))
            self.count(item["image_id"], tuple(item["image"].shape[-2:]), item["annotations"], detections)
        return predicted

    def describe(self, item: Item, predicted: Any) -> tuple[np.ndarray, Any, Any]:
        target = self.dataset.target(item["annotations"], tuple(item["image"].shape[-2:]))
        detections = {key: value.cpu() for key, value in predicted.items()}
        if "masks" in detections:
            detections["masks"] = detections["masks"][:, 0] >= 0.5
        else:
            target.pop("masks")
        true, detected = ({key: value.numpy() for key, value in x.items()} for x in (target, detections))
        return pixels_of(item["image"]), true, detected

    def count(
        self, image_id: int, size: tuple[int, int], annotations: Sequence[Annotation], detections: dict[str, Tensor]
    ) -> None:
        """Count true and predicted objects of an image.

        Args:
            image_id: Number of the image.
            size: Height and width, px.
            annotations: True objects, see `atmviz.sources.coco_json`.
            detections: boxes [N, 4] in px, scores [N], labels [N], and masks [N, 1, H, W] where the detector predicts
                them.
        """
        self._images.append({"id": image_id, "height": size[0], "width": size[1]})
        for annotation in annotations:
            kept = {"iscrowd": 0, **{name: value for name, value in annotation.items() if name != "mask"}}
            self._truth.append({**kept, "image_id": image_id, "segmentation": run_lengths(annotation, size)})
        boxes, scores, labels = (detections[name].cpu() for name in ("boxes", "scores", "labels"))
        xywh = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        rows = [
            {"image_id": image_id, "category_id": self.dataset.category_ids[label], "bbox": box, "score": score}
            for label, box, score in zip(labels.tolist(), xywh.tolist(), scores.tolist(), strict=True)
        ]
        if "segm" in self._kinds:
            masks = (detections["masks"][:, 0] >= 0.5).cpu().numpy()
            for row, mask in zip(rows, masks, strict=True):
                row["segmentation"] = coco_masks().encode(np.asfortranarray(mask, dtype=np.uint8))
        self._detections += rows

    def metrics(self) -> dict[str, float]:
        """Return box_ap, box_ap50, box_ap75, box_ap_small, box_ap_medium, box_ap_large in percent, and so of masks.

        NaN where pycocotools returns -1: there is no true object of the kind.
        """
        found = self._gathered()
        scores = {}
        for kind, prefix in self._kinds.items():
            judged = self._judge(kind, found)
            for name, value in zip(_AP_NAMES, judged.stats[:6], strict=True):
                scores[f"{prefix}_{name}"] = 100 * float(value) if value >= 0 else float("nan")
            # [IoU thresholds, recalls, classes, areas, limits of detections], here for all areas and the largest limit
            precision = judged.eval["precision"][:, :, :, 0, -1].mean((0, 1))
            by_id = dict(zip(judged.params.catIds, precision.tolist(), strict=True))
            values = np.array([by_id[category] for category in self.dataset.category_ids])
            self._per_class[f"{prefix}_ap"] = np.where(values < 0, np.nan, 100 * values)  # -1: no true object
        return scores

    def outcomes(self) -> WithoutGroups:
        """Return the AP of boxes without each group of images."""
        found = self._gathered()
        images = sorted(image["id"] for image in found[0])
        if len(images) < GROUPS:
            return WithoutGroups(np.empty(0))
        stats = [self._judge("bbox", found, {*images} - {*images[group::GROUPS]}).stats[0] for group in range(GROUPS)]
        return WithoutGroups(np.array([100 * value if value >= 0 else np.nan for value in stats]))

    def _gathered(self) -> list[list[dict[str, Any]]]:
        """Return images, true objects and detections of all processes."""
        return [gather_all(items) for items in (self._images, self._truth, self._detections)]

    def _judge(self, kind: Any, found: list[list[dict[str, Any]]], images: Collection[int] | None = None) -> Any:
        """Return COCO's evaluation of `_gathered`, of some images or all of them."""
        from faster_coco_eval import COCO, COCOeval_faster

        listed, truth, detections = found
        if images is not None:
            listed = [image for image in listed if image["id"] in images]
            truth, detections = ([one for one in some if one["image_id"] in images] for some in (truth, detections))
        if kind == "segm":  # the area of the mask, not of its box, decides what is small
            detections = [{name: value for name, value in item.items() if name != "bbox"} for item in detections]
        truth = [{**item, "id": number} for number, item in enumerate(truth, start=1)]  # 0 would mean "no match"
        names = zip(self.dataset.category_ids, self.dataset.classes, strict=True)
        categories = [{"id": category, "name": name} for category, name in names]
        expected = COCO({"images": listed, "annotations": truth, "categories": categories})
        judged = COCOeval_faster(expected, expected.loadRes(detections), kind)
        judged.run()
        return judged

    def per_class(self) -> dict[str, np.ndarray]:
        return self._per_class
