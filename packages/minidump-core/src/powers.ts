/** 2 ** shift for shifts from 0 to 63: as an expression it is a call of a general power function. */
export const POWERS: Float64Array = Float64Array.from({ length: 64 }, (_, shift) => 2 ** shift);
