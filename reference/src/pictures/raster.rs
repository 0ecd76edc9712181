//! A decoded picture, in the mode in which Pillow would hold it.
//!
//! The mode matters: the picture is enlarged in it before it becomes RGB, and Pillow enlarges a palette's indices by
//! repetition, bytes by interpolation, and colours under transparency premultiplied.

/// A colour of a palette: red, green, blue.
pub type Rgb = [u8; 3];

/// How the bytes of a [`Raster`] are read. The names are Pillow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Black or white, a byte each: 0 or 255.
    Bilevel,
    /// Grey.
    L,
    /// Grey, alpha.
    La,
    /// An index into the palette.
    P,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, alpha.
    Rgba,
    /// Cyan, magenta, yellow, black, 255 being full ink.
    Cmyk,
    /// Grey in 16 bits, native order.
    I16,
}

impl Mode {
    /// Bytes of a pixel.
    pub fn bytes_per_pixel(self) -> usize {
        match self {
            Self::Bilevel | Self::L | Self::P => 1,
            Self::La | Self::I16 => 2,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
        }
    }

    /// Pillow's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bilevel => "1",
            Self::L => "L",
            Self::La => "LA",
            Self::P => "P",
            Self::Rgb => "RGB",
            Self::Rgba => "RGBA",
            Self::Cmyk => "CMYK",
            Self::I16 => "I;16",
        }
    }
}

/// A decoded picture: rows from the top, pixels from the left, channels interleaved, no padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Raster {
    /// How `data` is read.
    pub mode: Mode,
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height * mode.bytes_per_pixel()` bytes.
    pub data: Vec<u8>,
    /// The colours of mode [`Mode::P`], black where the file has none; empty in other modes.
    pub palette: Vec<Rgb>,
}

impl std::fmt::Debug for Raster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Raster({} {} × {})", self.mode.name(), self.width, self.height)
    }
}

impl Raster {
    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.width * self.mode.bytes_per_pixel()
    }

    /// The bytes of a row.
    pub fn row(&self, row: usize) -> &[u8] {
        &self.data[row * self.row_bytes()..(row + 1) * self.row_bytes()]
    }
}
