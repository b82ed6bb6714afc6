"""LightningDataModules: folders of images, timm's readers, and real images that need no download."""

from lightning_wrcor.data.digits import DigitsData as DigitsData
from lightning_wrcor.data.folder import ImageFolderData as ImageFolderData
from lightning_wrcor.data.readers import TimmData as TimmData
