"""Shared by the image predictor cases: asks Meta's image predictor and records its answers."""

import numpy as np
import torch

import sam2.utils.misc
from common import connected_components
from sam2.sam2_image_predictor import SAM2ImagePredictor

sam2.utils.misc.get_connected_components = connected_components
CLEAN = dict(mask_threshold=0.25, max_hole_area=6, max_sprinkle_area=9)


class Recorder:
    """All answers, and all masks and IoUs behind each single mask."""

    def __init__(self, model, image):
        self.model, self.image = model, image
        self.plain, self.results, self.singles, self.cleaned = self.predictor(), {}, [], None

    def predictor(self, **options):
        made = SAM2ImagePredictor(self.model, **options)
        made._bb_feat_sizes = [(self.model.image_size // stride,) * 2 for stride in (4, 8, 16)]
        made.set_image(self.image.numpy())
        return made

    def ask(self, name, multimask, **prompt):
        decoder = self.model.sam_mask_decoder
        predict_masks = decoder.predict_masks

        def recorded(**inputs):
            outputs = predict_masks(**inputs)
            if not multimask:
                self.singles.append(outputs[:2])
            return outputs

        decoder.predict_masks = recorded
        self.results[name] = self.plain.predict(multimask_output=multimask, return_logits=True, **prompt)
        decoder.predict_masks = predict_masks

    def ask_cleaned(self, **prompt):
        self.cleaned = self.predictor(**CLEAN).predict(multimask_output=True, return_logits=True, **prompt)

    def stability(self, off):
        """The least and the most stability of the single masks, if their logits moved by up to `off` of the largest;
        less the threshold."""
        decoder = self.model.sam_mask_decoder
        masks = torch.cat([masks[:, 0] for masks, _ in self.singles]).flatten(1)
        delta, off = decoder.dynamic_multimask_stability_delta, off * masks.abs().amax(1, keepdim=True)
        area = lambda threshold: (masks > threshold).sum(1).float()
        ratios = [area(delta + off) / area(-delta - off), area(delta - off) / area(-delta + off)]
        return [ratio.nan_to_num(1.0) - decoder.dynamic_multimask_stability_thresh for ratio in ratios]

    def decisions_are_clear(self, off=0.0, margin=1e-2):
        """Each single mask is stable or not, clearly, and the candidate in an unstable one's place is clearly the best.
        So it is too where logits are `off`, relative to the largest."""
        least, most = self.stability(off)
        best = torch.cat([ious[:, 1:] for _, ious in self.singles]).topk(2).values
        self.stable, self.unstable = least >= margin, most <= -margin
        self.unstable &= best[:, 0] - best[:, 1] >= 1e-2
        return (self.stable | self.unstable).all()

    def cleaning_is_clear(self, cleaned):
        """Cleaning the answer `cleaned` changes masks both ways, by pixels that are clearly inside or outside."""
        logits, _, low = self.results[cleaned]
        change = self.cleaned[0] - logits
        return np.abs(low - CLEAN["mask_threshold"]).min() > 1e-3 and change.max() > 1 and change.min() < -1

    def outputs(self):
        tensors, cleaned = {}, {"cleaned": self.cleaned} if self.cleaned else {}
        for name, (logits, iou, low) in (self.results | cleaned).items():
            batched = logits.ndim == 4
            part = lambda x: torch.from_numpy(x if batched else x[None])
            tensors |= {f"{name}.logits": part(logits), f"{name}.iou": part(iou), f"{name}.low": part(low)}
        return tensors
