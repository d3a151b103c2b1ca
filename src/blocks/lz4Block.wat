;; Decodes LZ4 blocks and makes them (github.com/lz4/lz4, doc/lz4_Block_format.md). Safe on hostile bytes: nothing is read
;; outside the memory, and what is written outside the result lies within 16 bytes behind it.
;;
;; A block is a row of sequences: a token, whose upper four bits tell how many literals follow and whose lower ones how
;; long the match is that comes after them; 15 means that bytes to be added follow, up to the first that is not 255. A
;; match is a distance back into the result (u16) and at least 4 bytes long. The last sequence has literals alone.
;;
;; Everything is copied 16 bytes at a time, past the end of what is wanted by up to 15, which the next sequence
;; overwrites: lz4Block.ts leaves that much room behind the source and behind the result.
(module
  (memory (export "memory") 33 33)

  ;; By distance, 0 to 16 and more: which of the bytes that repeat each of 16 is …
  (data (i32.const 0x201000)
    "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00"
    "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00"
    "\00\01\00\01\00\01\00\01\00\01\00\01\00\01\00\01"
    "\00\01\02\00\01\02\00\01\02\00\01\02\00\01\02\00"
    "\00\01\02\03\00\01\02\03\00\01\02\03\00\01\02\03"
    "\00\01\02\03\04\00\01\02\03\04\00\01\02\03\04\00"
    "\00\01\02\03\04\05\00\01\02\03\04\05\00\01\02\03"
    "\00\01\02\03\04\05\06\00\01\02\03\04\05\06\00\01"
    "\00\01\02\03\04\05\06\07\00\01\02\03\04\05\06\07"
    "\00\01\02\03\04\05\06\07\08\00\01\02\03\04\05\06"
    "\00\01\02\03\04\05\06\07\08\09\00\01\02\03\04\05"
    "\00\01\02\03\04\05\06\07\08\09\0a\00\01\02\03\04"
    "\00\01\02\03\04\05\06\07\08\09\0a\0b\00\01\02\03"
    "\00\01\02\03\04\05\06\07\08\09\0a\0b\0c\00\01\02"
    "\00\01\02\03\04\05\06\07\08\09\0a\0b\0c\0d\00\01"
    "\00\01\02\03\04\05\06\07\08\09\0a\0b\0c\0d\0e\00"
    "\00\01\02\03\04\05\06\07\08\09\0a\0b\0c\0d\0e\0f")
  ;; … and the least multiple of the distance that is at least 16.
  (data (i32.const 0x201110)
    "\00\10\10\12\10\14\12\15\10\12\14\16\18\1a\1c\1e\10")
  ;; From 0x202000 on: where in the source each of 4096 hashes of five bytes was seen last, u32.

  ;; $from, $bytes: the block; $to, $room: where the result goes, and how long it may be.
  ;; Answers with the result's length, or -1 where this is no LZ4 block or its result is longer.
  (func (export "decode")
    (param $from i32) (param $bytes i32) (param $to i32) (param $room i32) (result i32)
    (local $end i32)
    (local $out i32)
    (local $outEnd i32)
    (local $token i32)
    (local $length i32)
    (local $more i32)
    (local $source i32)
    (local $stop i32)
    (local $distance i32)
    (local $row i32)
    (local.set $end (i32.add (local.get $from) (local.get $bytes)))
    (local.set $out (local.get $to))
    (local.set $outEnd (i32.add (local.get $to) (local.get $room)))
    (block $bad
      (loop $sequence
        (br_if $bad (i32.ge_u (local.get $from) (local.get $end)))
        (local.set $token (i32.load8_u (local.get $from)))
        (local.set $from (i32.add (local.get $from) (i32.const 1)))

        ;; Literals.
        (local.set $length (i32.shr_u (local.get $token) (i32.const 4)))
        (if (i32.eq (local.get $length) (i32.const 15)) (then
          (loop $adding
            (br_if $bad (i32.ge_u (local.get $from) (local.get $end)))
            (local.set $more (i32.load8_u (local.get $from)))
            (local.set $from (i32.add (local.get $from) (i32.const 1)))
            (local.set $length (i32.add (local.get $length) (local.get $more)))
            (br_if $adding (i32.eq (local.get $more) (i32.const 255))))))
        (if (local.get $length) (then
          (br_if $bad (i32.gt_u (local.get $length) (i32.sub (local.get $end) (local.get $from))))
          (br_if $bad (i32.gt_u (local.get $length) (i32.sub (local.get $outEnd) (local.get $out))))
          (local.set $source (local.get $from))
          (local.set $from (i32.add (local.get $from) (local.get $length)))
          (local.set $stop (i32.add (local.get $out) (local.get $length)))
          (loop $copying
            (v128.store align=1 (local.get $out) (v128.load align=1 (local.get $source)))
            (local.set $out (i32.add (local.get $out) (i32.const 16)))
            (local.set $source (i32.add (local.get $source) (i32.const 16)))
            (br_if $copying (i32.lt_u (local.get $out) (local.get $stop))))
          (local.set $out (local.get $stop))))
        (if (i32.eq (local.get $from) (local.get $end)) (then
          (return (i32.sub (local.get $out) (local.get $to)))))

        ;; The match: its distance …
        (br_if $bad (i32.lt_u (i32.sub (local.get $end) (local.get $from)) (i32.const 2)))
        (local.set $distance (i32.load16_u align=1 (local.get $from)))
        (local.set $from (i32.add (local.get $from) (i32.const 2)))
        (br_if $bad (i32.eqz (local.get $distance)))
        (br_if $bad (i32.gt_u (local.get $distance) (i32.sub (local.get $out) (local.get $to))))
        ;; … its length …
        (local.set $length (i32.and (local.get $token) (i32.const 15)))
        (if (i32.eq (local.get $length) (i32.const 15)) (then
          (loop $adding
            (br_if $bad (i32.ge_u (local.get $from) (local.get $end)))
            (local.set $more (i32.load8_u (local.get $from)))
            (local.set $from (i32.add (local.get $from) (i32.const 1)))
            (local.set $length (i32.add (local.get $length) (local.get $more)))
            (br_if $adding (i32.eq (local.get $more) (i32.const 255))))))
        (local.set $length (i32.add (local.get $length) (i32.const 4)))
        (br_if $bad (i32.gt_u (local.get $length) (i32.sub (local.get $outEnd) (local.get $out))))
        ;; … and its bytes.
        (local.set $stop (i32.add (local.get $out) (local.get $length)))
        (local.set $source (i32.sub (local.get $out) (local.get $distance)))
        ;; The first 16 are made at once of what repeats, also where they overlap themselves: once they are there, the same
        ;; bytes lie a multiple of the distance back that is at least 16. Which distances do is not to be foreseen, so there
        ;; is no branch.
        (local.set $row
          (select (local.get $distance) (i32.const 16) (i32.lt_u (local.get $distance) (i32.const 16))))
        (v128.store align=1 (local.get $out)
          (i8x16.swizzle
            (v128.load align=1 (local.get $source))
            (v128.load align=1 (i32.add (i32.const 0x201000) (i32.shl (local.get $row) (i32.const 4))))))
        (local.set $out (i32.add (local.get $out) (i32.const 16)))
        (local.set $source
          (i32.sub
            (local.get $out)
            (select
              (i32.load8_u (i32.add (i32.const 0x201110) (local.get $row)))
              (local.get $distance)
              (i32.lt_u (local.get $distance) (i32.const 16)))))
        (if (i32.lt_u (local.get $out) (local.get $stop)) (then
          (loop $copying
            (v128.store align=1 (local.get $out) (v128.load align=1 (local.get $source)))
            (local.set $out (i32.add (local.get $out) (i32.const 16)))
            (local.set $source (i32.add (local.get $source) (i32.const 16)))
            (br_if $copying (i32.lt_u (local.get $out) (local.get $stop))))))
        (local.set $out (local.get $stop))
        (br $sequence)))
    (i32.const -1))

  ;; Makes one LZ4 block of $bytes (at least 1) plain bytes at $from, into $room bytes at $to.
  ;; Answers with the block's length, or 0 where it would be longer than $room.
  ;;
  ;; The way of LZ4's own fast compressor: a table tells of the hash of five bytes where they were seen last. Where four bytes
  ;; are the same there, that is a match, lengthened to both sides. The longer none is found, the larger are the steps.
  ;; By the format's rules the last match begins 12 bytes before the end and ends 5 before it.
  (func (export "encode")
    (param $from i32) (param $bytes i32) (param $to i32) (param $room i32) (result i32)
    (local $at i32)
    ;; Where the literals begin that wait to be written.
    (local $anchor i32)
    (local $end i32)
    (local $lastStart i32)
    (local $lastEnd i32)
    (local $out i32)
    (local $outEnd i32)
    (local $token i32)
    ;; Its upper four bits.
    (local $bits i32)
    (local $need i32)
    (local $next i32)
    (local $tries i32)
    (local $slot i32)
    (local $match i32)
    (local $length i32)
    (local $source i32)
    (local $stop i32)
    (local $differ i32)
    (local.set $at (local.get $from))
    (local.set $anchor (local.get $from))
    (local.set $end (i32.add (local.get $from) (local.get $bytes)))
    (local.set $lastStart (i32.sub (local.get $end) (i32.const 12)))
    (local.set $lastEnd (i32.sub (local.get $end) (i32.const 5)))
    (local.set $out (local.get $to))
    (local.set $outEnd (i32.add (local.get $to) (local.get $room)))
    ;; Nothing seen yet is as if all had been seen at the first byte, which is compared like any other.
    (memory.fill (i32.const 0x202000) (i32.const 0) (i32.const 0x4000))
    (block $rest
      (br_if $rest (i32.lt_u (local.get $bytes) (i32.const 13)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (loop $sequence
        ;; The next match.
        (local.set $next (local.get $at))
        (local.set $tries (i32.const 64))
        (loop $trying
          (local.set $at (local.get $next))
          (br_if $rest (i32.gt_u (local.get $at) (local.get $lastStart)))
          (local.set $next (i32.add (local.get $at) (i32.shr_u (local.get $tries) (i32.const 6))))
          (local.set $tries (i32.add (local.get $tries) (i32.const 1)))
          (local.set $slot (i32.add
            (i32.const 0x202000)
            (i32.and
              (i32.wrap_i64
                (i64.shr_u
                  (i64.mul (i64.shl (i64.load align=1 (local.get $at)) (i64.const 24)) (i64.const 889523592379))
                  (i64.const 50)))
              (i32.const 0x3ffc))))
          (local.set $match (i32.add (local.get $from) (i32.load (local.get $slot))))
          (i32.store (local.get $slot) (i32.sub (local.get $at) (local.get $from)))
          (br_if $trying (i32.gt_u (i32.sub (local.get $at) (local.get $match)) (i32.const 65535)))
          (br_if $trying
            (i32.ne (i32.load align=1 (local.get $match)) (i32.load align=1 (local.get $at)))))
        (block $begun
          (loop $earlier
            (br_if $begun (i32.le_u (local.get $at) (local.get $anchor)))
            (br_if $begun (i32.le_u (local.get $match) (local.get $from)))
            (br_if $begun
              (i32.ne
                (i32.load8_u (i32.sub (local.get $at) (i32.const 1)))
                (i32.load8_u (i32.sub (local.get $match) (i32.const 1)))))
            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
            (local.set $match (i32.sub (local.get $match) (i32.const 1)))
            (br $earlier)))

        ;; Its literals.
        (local.set $length (i32.sub (local.get $at) (local.get $anchor)))
        ;; At most, with the token, what tells their length, and the distance.
        (local.set $need (i32.add (i32.add (local.get $length) (i32.shr_u (local.get $length) (i32.const 7))) (i32.const 4)))
        (if (i32.gt_u (i32.add (local.get $out) (local.get $need)) (local.get $outEnd)) (then (return (i32.const 0))))
        (local.set $token (local.get $out))
        (local.set $out (i32.add (local.get $out) (i32.const 1)))
        (if (i32.lt_u (local.get $length) (i32.const 15))
          (then (local.set $bits (i32.shl (local.get $length) (i32.const 4))))
          (else
            (local.set $bits (i32.const 0xf0))
            (local.set $out (call $putRest (local.get $out) (local.get $length)))))
        (local.set $stop (i32.add (local.get $out) (local.get $length)))
        (local.set $source (local.get $anchor))
        (loop $copying
          (v128.store align=1 (local.get $out) (v128.load align=1 (local.get $source)))
          (local.set $out (i32.add (local.get $out) (i32.const 16)))
          (local.set $source (i32.add (local.get $source) (i32.const 16)))
          (br_if $copying (i32.lt_u (local.get $out) (local.get $stop))))
        (local.set $out (local.get $stop))
        (i32.store16 align=1 (local.get $out) (i32.sub (local.get $at) (local.get $match)))
        (local.set $out (i32.add (local.get $out) (i32.const 2)))

        ;; Where it ends.
        (local.set $source (i32.add (local.get $match) (i32.const 4)))
        (local.set $stop (i32.add (local.get $at) (i32.const 4)))
        (block $ended
          (loop $later
            (br_if $ended (i32.gt_u (i32.add (local.get $stop) (i32.const 16)) (local.get $lastEnd)))
            (local.set $differ
              (i32.xor
                (i8x16.bitmask
                  (i8x16.eq
                    (v128.load align=1 (local.get $source))
                    (v128.load align=1 (local.get $stop))))
                (i32.const 0xffff)))
            (if (local.get $differ) (then
              (local.set $stop (i32.add (local.get $stop) (i32.ctz (local.get $differ))))
              (br $ended)))
            (local.set $source (i32.add (local.get $source) (i32.const 16)))
            (local.set $stop (i32.add (local.get $stop) (i32.const 16)))
            (br $later)))
        (block $ended
          (br_if $ended (local.get $differ))
          (loop $later
            (br_if $ended (i32.ge_u (local.get $stop) (local.get $lastEnd)))
            (br_if $ended
              (i32.ne (i32.load8_u (local.get $source)) (i32.load8_u (local.get $stop))))
            (local.set $source (i32.add (local.get $source) (i32.const 1)))
            (local.set $stop (i32.add (local.get $stop) (i32.const 1)))
            (br $later)))
        (local.set $differ (i32.const 0))
        (local.set $length (i32.sub (i32.sub (local.get $stop) (local.get $at)) (i32.const 4)))
        (if (i32.lt_u (local.get $length) (i32.const 15))
          (then (i32.store8 (local.get $token) (i32.or (local.get $bits) (local.get $length))))
          (else
            (local.set $need (i32.add (i32.shr_u (local.get $length) (i32.const 7)) (i32.const 1)))
            (if (i32.gt_u (i32.add (local.get $out) (local.get $need)) (local.get $outEnd)) (then (return (i32.const 0))))
            (i32.store8 (local.get $token) (i32.or (local.get $bits) (i32.const 15)))
            (local.set $out (call $putRest (local.get $out) (local.get $length)))))
        (local.set $at (local.get $stop))
        (local.set $anchor (local.get $at))
        ;; What lies two bytes before the end of a match often begins the next one.
        (local.set $next (i32.sub (local.get $at) (i32.const 2)))
        (i32.store
          (i32.add
            (i32.const 0x202000)
            (i32.and
              (i32.wrap_i64
                (i64.shr_u
                  (i64.mul (i64.shl (i64.load align=1 (local.get $next)) (i64.const 24)) (i64.const 889523592379))
                  (i64.const 50)))
              (i32.const 0x3ffc)))
          (i32.sub (local.get $next) (local.get $from)))
        (br $sequence)))
    ;; The last literals.
    (local.set $length (i32.sub (local.get $end) (local.get $anchor)))
    (local.set $need (i32.add (i32.add (local.get $length) (i32.shr_u (local.get $length) (i32.const 7))) (i32.const 2)))
    (if (i32.gt_u (i32.add (local.get $out) (local.get $need)) (local.get $outEnd)) (then (return (i32.const 0))))
    (local.set $token (local.get $out))
    (local.set $out (i32.add (local.get $out) (i32.const 1)))
    (if (i32.lt_u (local.get $length) (i32.const 15))
      (then (i32.store8 (local.get $token) (i32.shl (local.get $length) (i32.const 4))))
      (else
        (i32.store8 (local.get $token) (i32.const 0xf0))
        (local.set $out (call $putRest (local.get $out) (local.get $length)))))
    (memory.copy (local.get $out) (local.get $anchor) (local.get $length))
    (i32.sub (i32.add (local.get $out) (local.get $length)) (local.get $to)))

  ;; What of a length does not fit into a token.
  (func $putRest (param $out i32) (param $length i32) (result i32)
    (if (i32.lt_u (local.get $length) (i32.const 15)) (then (return (local.get $out))))
    (local.set $length (i32.sub (local.get $length) (i32.const 15)))
    (block $last
      (loop $adding
        (br_if $last (i32.lt_u (local.get $length) (i32.const 255)))
        (i32.store8 (local.get $out) (i32.const 255))
        (local.set $out (i32.add (local.get $out) (i32.const 1)))
        (local.set $length (i32.sub (local.get $length) (i32.const 255)))
        (br $adding)))
    (i32.store8 (local.get $out) (local.get $length))
    (i32.add (local.get $out) (i32.const 1))))
