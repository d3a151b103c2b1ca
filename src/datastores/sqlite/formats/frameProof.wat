;; Follows the checksum of a write-ahead log over frames (https://www.sqlite.org/fileformat2.html#walformat), for a log whose
;; checksum reads words in this machine's order, which is little-endian as WebAssembly's is.
(module
  (memory (export "memory") 18 18)

  ;; $count frames of $size bytes at $at, $salt1 and $salt2 as the four bytes that the frames have. The sum before them is at 0:
  ;; its two words; the sum after the last frame that fits is left there.
  ;; Answers with how many frames fit, one after another.
  (func (export "prove")
    (param $at i32) (param $count i32) (param $size i32) (param $salt1 i32) (param $salt2 i32) (result i32)
    (local $fitting i32)
    (local $a i32)
    (local $b i32)
    (local $word i32)
    (local $end i32)
    (local.set $a (i32.load (i32.const 0)))
    (local.set $b (i32.load (i32.const 4)))
    (block $done
      (loop $frame
        (br_if $done (i32.eq (local.get $fitting) (local.get $count)))
        (br_if $done (i32.eqz (i32.load (local.get $at))))
        (br_if $done (i32.ne (i32.load offset=8 (local.get $at)) (local.get $salt1)))
        (br_if $done (i32.ne (i32.load offset=12 (local.get $at)) (local.get $salt2)))
        ;; The page's number and the database's size …
        (local.set $a (i32.add (i32.add (local.get $a) (local.get $b)) (i32.load (local.get $at))))
        (local.set $b (i32.add (i32.add (local.get $b) (local.get $a)) (i32.load offset=4 (local.get $at))))
        ;; … and the page, whose length is a multiple of 32.
        (local.set $word (i32.add (local.get $at) (i32.const 24)))
        (local.set $end (i32.add (local.get $at) (local.get $size)))
        (loop $words
          (local.set $a (i32.add (i32.add (i32.load (local.get $word)) (local.get $a)) (local.get $b)))
          (local.set $b (i32.add (i32.add (i32.load offset=4 (local.get $word)) (local.get $b)) (local.get $a)))
          (local.set $a (i32.add (i32.add (i32.load offset=8 (local.get $word)) (local.get $a)) (local.get $b)))
          (local.set $b (i32.add (i32.add (i32.load offset=12 (local.get $word)) (local.get $b)) (local.get $a)))
          (local.set $a (i32.add (i32.add (i32.load offset=16 (local.get $word)) (local.get $a)) (local.get $b)))
          (local.set $b (i32.add (i32.add (i32.load offset=20 (local.get $word)) (local.get $b)) (local.get $a)))
          (local.set $a (i32.add (i32.add (i32.load offset=24 (local.get $word)) (local.get $a)) (local.get $b)))
          (local.set $b (i32.add (i32.add (i32.load offset=28 (local.get $word)) (local.get $b)) (local.get $a)))
          (local.set $word (i32.add (local.get $word) (i32.const 32)))
          (br_if $words (i32.lt_u (local.get $word) (local.get $end))))
        (br_if $done (i32.ne (call $swapped (i32.load offset=16 (local.get $at))) (local.get $a)))
        (br_if $done (i32.ne (call $swapped (i32.load offset=20 (local.get $at))) (local.get $b)))
        (i32.store (i32.const 0) (local.get $a))
        (i32.store (i32.const 4) (local.get $b))
        (local.set $at (local.get $end))
        (local.set $fitting (i32.add (local.get $fitting) (i32.const 1)))
        (br $frame)))
    (local.get $fitting))

  ;; The other order of its bytes.
  (func $swapped (param $word i32) (result i32)
    (i32.or
      (i32.and (i32.rotl (local.get $word) (i32.const 8)) (i32.const 0x00ff00ff))
      (i32.and (i32.rotl (local.get $word) (i32.const 24)) (i32.const 0xff00ff00)))))
