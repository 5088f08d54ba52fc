"""One tiny picture in every compressed transfer syntax, for the self-check: 32 x 36 pixels of 12 bits.

Made with GDCM (JPEG lossless), CharLS (JPEG-LS), OpenJPEG (JPEG 2000) and OpenJPH (HTJ2K, progression RPCL); RLE by
hand. The picture is a ramp with steps, so that a decoder that swaps axes, bytes or signs cannot pass.
"""

import base64

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS, BITS = 32, 36, 12


def picture() -> NDArray[np.uint16]:
    """(32, 36), from 0 to 2585."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    return (row * column + 200 * (row // 8) + 900 * (column // 20)).astype(np.uint16)


def rle() -> bytes:
    """``picture`` as two literal byte planes (PS3.5 annex G)."""
    planes = picture().astype(">u2").tobytes()
    segments = [
        b"".join(b"\x7f" + plane[i : i + 128] for i in range(0, len(plane), 128))
        for plane in (planes[0::2], planes[1::2])
    ]
    header = np.array([2, 64, 64 + len(segments[0]), *[0] * 13], "<u4").tobytes()
    return header + b"".join(segments)


JPEG_LOSSLESS = (
    "|JeV-01FTRAOIu*0TBTI!~h%s0RaI30|5a600000000001q1^C0RjpL5dYc$2mt{A0RRC0=Q+-EoaZ^tbDZZn_X*B(oaZ^tbDZZn-+lMrefQse_u"
    "qZ@-+leU_uqZ@-+lMrefQsd_3PKKUcGwt>({Sdy?XWQ*W5R+UcGwt>({Sdy?XWQp8fmx@87?E{rmUt-@ktS`}>FY@87?E{rmUt-@ktS^G!6<O*GR"
    "@G}BEq(@iw{h|^6p(@iwfO*GR@Ij*|vuDa{4y6djG>#n-}#OtoQ>#n-%uDa{4yxVQI+ikYnZMNHOw%cvK;<npuw%cvC+ikYnZg0N(@4ox*zWeXK`"
    "|rO00C9WozWeXK`|rN{@4xJdD58oeqKYV@iYTIrD5LH&iYTIrD58oeqKYWxG}BEq(@iwfO*GR@G}HGRO*GR@G}BEq(@iw;s;a80s;a80s;a80s;c"
    "{rs;a80s;a80s;a8FU3J%8b=O^W*IjkjU3LA(*IjkjU3J%8b=O^dvdb*8%Pg|XEV9civdcc?EV9civdb*8%Pg|aTWz-6ZMNHOw%cvC+ikycHrs8s"
    "+ikYnZMNHQF1qWky6djG>#n-%uDb8JE3UfhuDa{4y6djHm*0K&-+lMrefQse_uqfqo%i2;_uqZ@-+lMr`ym7nK?D#%1Q0<45J3bG`;<Wh5J3bGK?"
    "D#%1UQN)qKYV@iYTIrD58oe{mP<>D58oeqKYV@iabdql1U_zNhFd<B$7!azU7ihB$7!al1U_zNiHUuX{MTKrkZJ{nrWt*e{$)jnrWt*X{MTKrk@m"
    "1MHEp*6j4PKQAHF{Pq~E@QAHF{MHEp*6jO?-s;a80s;a80s;a80uiVP2s;a80s;a80s;kA8S!I@4WtLfGmRV(%TkdIPmRV(%S!I@4WtQUWuDa{4y"
    "6djG>#n-%ulF{(>#n-%uDa{4y6gVPVTKrCh8SUn7-5DOVTL~E7-5DOVTKrCh8SUvGRrKo%Pg|XEV9civdcentg_22vdb*8%Pg|b8fm7QX{MTKrkZ"
    "J{nrW}O=9+1ynrWt*X{MTMjkeouw%cvC+ikYnZMNUs`)#({ZMNHOw%cvD#~g9T9C61SamO5S#~gF+fyW$i#~g9T9C61S<F2~vuDa{4y6djG>#n=^"
    "LhG)&>#n-%uDa{4@#mg-=bm}zo_Xh<dFP({qIu_@dFP&a=bm}zxcl$E`|rN{@4ox*zWeX}(Z2idzWeXK`|rN{{{a8l"
)
JPEG_LS = (
    "|JeWc01FHNAOIu*0TBTI+5iXv0RR910RLbB001Mvf(Swoh=_=YFbo(l!x+XhGcz+Y3q%+&!x+XhGcz*+6i84(2tpAN5fKt5h>)Oy5QHKkA|gQoZK"
    "RS(B$7nURZ>YLl1Pw2$t03VB$AUR+ikYnB_tr^L`0HFB$SAVl1U_zN=QNSA|fIpA|fjwA|fIpA|fSdK=~075fKp)6}}=OA|fIpBCr4e0u(1%RTiZ"
    "wNlH~!RX`6FQ4tXl5=lY?4e}ub5JC`yAq!pv5QHHJOw7#Mg8`f5LI@y;MrLhvLNhZnGcz-47%Q){BM^ik2tsRyW@ct)W@c?e1$FjhVi1HO2u^H5G"
    "cz+YGcs}*IbD637=|&7LUTrDW@ct)W^O|QoU81}%tIK)H?n4CW@ct)Wb`m8%IoaN#4v&gC$MH_W@ct)Wbgo75FkN@bDYL8jAIm~UTu`6DM~^Rgdq"
    "sM1P*e#`!X>MAcG8*#32Ym5QHHJ%#?6Arz@|UBM`z25i5v75QHN$GczRu6iAXuYhxPMIqx8XS+r)!i3i?w#@c0t*JgqT`=8sGtmG+-aTzmv+~+l|"
    "YZ%5cng|}%r|x32xe8;5#giDuF^po?wXJN>f$ds<Zep{LrZ|KMt&C$G-QC^Xnh+(cPwmWBaumlA@(ko52=4Cg?o0px0EZ3RH7HDx5)ZuVjkL=wI0"
    "54euDZ^1n%1?faDf6^wEo=1XCX{uy!x|{gdqq*5QHd$0$$Yq+{I@hOk=w8D>IOUAqYYcq6`UpQ~PrjoP;Tk<Ee_y<RJ(`5QPxIFKW}bF<Hn$nC-Z"
    "^ipC)bLJ)*e3=;OOJ98DC#4{bH%k0R+F^EDDL@-O*wEfIhcOgu6S~~kOF$`lE${~VY)u--ak(h=MY%(hQGBXgyF_ZxR*#H"
)
JPEG_LS_NEAR = (
    "|JeWc01FHNAOIu*0TBTI+5iXv0RRF30RLbB01Lt*NmX6I!XjB$RKptxiDg|V7!Y_@sMwK=jY<zuSTa!u6_b}-)G;(<We|wfRMSl?8B-N1sj(#us?"
    "upnqZJyY(u$;4dGnl(Wk#iWCj9y9rj08mAOHXW0EzO-tu)e=QjjrK|7i)l%*^S=W=>{iQ!6tjXK|UCIfflK<jkGNGbUu1hQB#8PLm|enJ|@CGEAC"
    "bGEA8=8KJ9xB%OqlB*`*S8rvk3Cm|%sCP|P11R*3OB$5(IJa9=Ql4O(78mi|cltM`)l1U^}jaTH7Q3)iHNis?XHSSE3n1qCqOp-_##x?mQI|PJ~l"
    "1Y*%h@z|WB@l#!l4O$<1B$IF`w2S)gpy>FA_h?w&6U`Rb0#7pB$FhO06SU;5bGKVDG1UKq#zhU5fLIJAqeF{5UCSyX%Q{Su!JL8){v}e3Ra;}F;Y"
    "pk+aeOeGb5P<Lb)7`L`1(%Nw!H5Ac%y7Be@9f#YL8T=T%87WFjGEA|fV5NZ#MwQj$j!A}pCQWXh8{f8Qx3+(b~c7Rj<IblZQ`B$7E4l5Muhl>gZP"
)
J2K = (
    "|4;u>04V?f0000a0000W00000000000000a0000W0000000000009dD0sm3}3;+NC0RROA1ONg5TmTb5U}$J?XlQU~XmDs~aA;_7|6~9q00BdCWn"
    "pw>WFTUBAWv{*Zc0!^M<8}(a&u{KZXhx)H7+v$kN^q*00000{s000li%PF2L{I%!TEth_5*+i!Uzeo3a29n!}bP;>=OV7LJb1doQG!<!V7o-lt&_"
    "e5MROhhQRy<AOJ)h`KxLg%n`Clm=j=~BkVa3mED}?O2^5EZiGRgi;_BZ9>2l)j6i*)kO25bCXcsu89f*4R)Q<r7?L$QTU#sKKwnhq3?gOAle(ZLf"
    "aiDoD0_;3aEC0jb!|yFKg?dIc3+fcn`MXFY%sF!A_u|wj6i*)kN_e;G-|>gYwRQltll~Pc#aA(?!8w^ov5z>)aNIn6!s1MEVz1$$RJhQ000065)P"
    "XR^BQc8H}$eD-;95@FaOy9"
)
J2K_LOSSY = (
    "|4;u>04V?f0000a0000W00000000000000a0000W0000000000009dD0sm3}3;+NC0RROA1ONd4TmU0Nmmrq#mhhIqj{uJVj^Kw-hfs%Ta0PG$a7"
    "TC3chh%b|6~9q00BdCWnpw>WFTUBAWv{*Zc0!^M<8}(a&u{KZXhx)H7+v$kN^q*00000t^fi5lgIub3I)SS3x~k}KsY}jKnB4-3dAua!27|Vec=!"
    "Qhz$AcT4nGLe?q@;&3W|;6Tp38updbf9QLGF%?FfaFvUY6og?gXy$H^ZBhz<k2ArmY=c>W<5`g%JfF_T%_t7jGr~oNDi5VqYSJB)IB4x}JKEjpEs"
    "=2V@+cLoV2S7d{z(6!=!CJ!<h2DBcU}c2>)aNIn6!vK{BIt`*$^Y2^"
)
HTJ2K = (
    "|4;u>04YEK0000a0000W00000000000000a0000W0000000000009pH0sl|{2mk^A000XAQUDA90ssL30t5s=0smY83LuD(kdTOoi2q~&7XSfIaA"
    "j^vP)HzFWpW@eE;2SQGcNy-015yA0006D00IA#zyL3)0RMk)0RI170Qmo3|9}5q{_g|K0^I69>2Kqw@b~y9{5^gJKkXmtKj|OjKjk0ZKj9zP|7^d"
    "*e+fVD{>9!?U$E!XgX@d*p?*aFF#b6H5I=f9ypP%ca5wJv>Z$aPd5e5ko*GY)&%<Z;NBi^oWBM8WUw$sXiGR({;#cK~@dtRad+i<IesuS<06+bD{"
    "bhgty?(NP{;)KleF*@{LO?dT0l)wkQ2+p5p8x<=0Q1jx;|9R|`EJ|@dj5PjZVasX@!hyl1OCic=pCo@4xi9FFOW%}0N>y5_xt^RznCxPi}_-{m@n"
    "pw`C`79FXoH+V!oI!=8O4azL+oOiveIH7!t;YL1MHRHpY*U`~Y(RYn})=G5O$wgB(H7019aU0H;?00QB#$k-F=tXaK+fF3JD_eF*>nn1cr!JlGmM"
    "*k$lw)4_wi7(Cdh!GoO~JlN{(|6xxP)5P@gJsu~giRke<M~VKB0(b$($K&yMJRXn7<MDVr9*@W4<MDVr9*@W4@pwEQkH_Qj@pwEQkH_Qjcsw4D$K"
    "#RZV(NuaPFn2?`~U(ofB<{;00HkmC%oy-Pyhf!*n|haVh|qvh(LSxApz{L002YSga^N35FY)AKzsHf0qn2<07KY>2ftzv9{q?wd-fp#?7Ia1|9U`"
    "00RPz"
)
HTJ2K_LOSSY = (
    "|4;u>04YEK0000a0000W00000000000000a0000W0000000000009pH0sl|{2mk^A001igQUDA90ssL30t5s=0RLP75h9<4kOPndkVco%m(rJE|6"
    "~9c00B>MWo}APNFY{aav(4+GBz$VF8`1K3IG5A00RjC0soW001NA|BOjc8aN&bFAEbNm>OqbNl^rC3kn_Rb0s{(E1rYcDU;u9Z?+GB#|7aS_W3WG"
    "iwHMrD5Mx2t1rrnuVo*!LvH*Gh@7`Z7f5H8)@gLVef8Rnuk^~1OI0L~S1g{NrH?XKce*+~7^xQu#f64kI^KI!L$ZwpF2|wCE(gIHwxP`z80@VZr5"
    ">N`j<^VJQXI{VD{9f-r*$=n}SP#XXApH-2tX{Hz|5`q>fB0AHF3`Pe14dfFF}VT202ix302i-7022Th4BFbd>&8f<-UqRQ1{k1?Hg(snkw!f|2@k"
    "ks92j7LHrmu(w?-QE^h{*XB?19pfC1WQQ+M4OY1Gs6QQ~s`PxwXw?BN)mnZhZe^N`>cp$eaM0WzgFN_j?wMv+FHMyW=%Lcv1aX5D7pX5D7pX5D7p"
    "X5D7pX5DJtYTatxYTatxYTatxYTaseCTsv?I9PN{ut4lMC@o+ipa%do&jcJ8{P01+jxoF;073{r7PbNW{~!`|0KfnjwLkzD=n$kx)vv!dNRg^vf5"
    "(mxk`$@>^>^$@Xh@1w{rWq0%!p}Hr0Un-v11AuNQzYb`a5=%1BjFqsrvPI>^R3LGAUB^>+jf+l9TFx;U#e^`74QE#I7YjlDL)pO5#)bD~VsAcM@y"
    "@fcmlm018N?E&3Mu7JWtEqOa&%^c8)JzM^l@SM)9VioQi((YNR;`d%y+i^XEGSS%Kc#bU8oEJWWT-=eSRTl5uui@u_7(O2{>`ij0qU(vVdEBY3FM"
    "c<3XVzF2(7K_DVu~;k?i-qW0<XiL=eT%-LZ_!uuE&7VSMPJdk=qvgbeMR4*ujqTRSS%Kc#bU8oEEbE!VzEHMC_XZFuy_H7Jm#p$B{|WBumDp40H;"
    "h5Dbu8<O(n}(*0rr?2vZP%r%XZuoiPXsbi^PjyK7q3wXER^Vh|MRh(J@OApuU9gatQkYg*Q|oFPm?0-Z4k3UtIEDbo;urs`|flGd)Y>IMJV"
)

STREAMS = {
    "1.2.840.10008.1.2.4.57": JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.70": JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.80": JPEG_LS,
    "1.2.840.10008.1.2.4.81": JPEG_LS_NEAR,
    "1.2.840.10008.1.2.4.90": J2K,
    "1.2.840.10008.1.2.4.91": J2K_LOSSY,
    "1.2.840.10008.1.2.4.201": HTJ2K,
    "1.2.840.10008.1.2.4.202": HTJ2K,
    "1.2.840.10008.1.2.4.203": HTJ2K_LOSSY,
}
LARGEST_ERROR = {"1.2.840.10008.1.2.4.81": 2, "1.2.840.10008.1.2.4.91": 20, "1.2.840.10008.1.2.4.203": 1}  # as encoded


def stream_of(uid: str) -> bytes:
    """The picture's codestream in one compressed syntax."""
    return base64.b85decode(STREAMS[uid]) if uid in STREAMS else rle()
